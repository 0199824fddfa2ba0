package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	defaultListen = "127.0.0.1:6443"
	serviceCIDR   = "10.96.0.0/16"
	podCIDR       = "10.244.0.0/24"
	// startGC is how much larger than what is in use the heap may grow during the
	// start, in percent.
	startGC = 400
	// clusterDomain is what the names of services and pods end in.
	clusterDomain = "cluster.local"
	// subjectPrefix is the first token of the NATS subjects.
	subjectPrefix = "reprise"
)

// newServerCommand starts a control plane.
func newServerCommand(env *environment) *cobra.Command {
	o := serverOptions{environment: env}
	c := &cobra.Command{
		Use:   "server",
		Short: "Start a control plane without a node",
		Long: `Starts the log, the API, the scheduler and the controllers, which need no root.
Nodes come to it by the address of its NATS. Its state is in the data directory; to
run several side by side give each a data directory, a run directory and two
addresses of its own.`,
		Example: `  reprise server
  reprise server --data-dir /tmp/a --run-dir /tmp/a/run --listen 127.0.0.1:7443 --nats-listen 127.0.0.1:7422`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.serve(c.Context(), o.start, whole{next: "get namespaces", end: "Nodes go on with what they run."})
		},
	}
	o.flags(c)
	return c
}

// serverOptions say how a control plane is to be, with a node beside it or without.
type serverOptions struct {
	*environment
	listen, level, encryption, scheduler, profiles string
	grace                                          time.Duration

	checkpoints notaryOptions
}

func (o *serverOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.listen, "listen", defaultListen, "address of the Kubernetes API")
	c.Flags().StringVar(&o.NATS, "nats-listen", defaultNATS, "address of the log's NATS, for nodes and integrators")
	c.Flags().StringVar(&o.encryption, "encryption-config", "", "an EncryptionConfiguration of Kubernetes: which resources to encrypt, by which key or KMS v2 plugin (default: Secrets, by a key that is made at the first start)")
	c.Flags().StringVar(&o.level, "log-level", "warn", "what the parts report to standard error: debug, info, warn or error")
	c.Flags().StringVar(&o.scheduler, "scheduler-config", "", "a KubeSchedulerConfiguration: how the scheduler prefers nodes (default: as kube-scheduler does)")
	c.Flags().StringVar(&o.profiles, "pprof", "", "an address of this machine on which to answer go tool pprof, as in 127.0.0.1:6060 (default: none)")
	c.Flags().DurationVar(&o.grace, "node-monitor-grace-period", 40*time.Second, "for how long a node may be silent before it counts as lost; nodes are heard every ten seconds")
	o.checkpoints.flags(c)
}

// check refuses flags that make no sense, before anything is started.
func (o *serverOptions) check() error {
	if o.grace <= 0 {
		return fmt.Errorf("--node-monitor-grace-period %s: nodes cannot be silent for no time at all", o.grace)
	}
	return errors.Join(checkNATSAddress(o.NATS), o.checkpoints.check())
}

// whole is what a person is told of what was started.
type whole struct {
	next string       // what to ask kubectl for, to see it
	end  string       // what its end leaves
	undo func() error // takes back what would outlive a start that fails, nil for nothing
}

// starter starts the parts. If one fails it ends ctx by end, and so the others.
type starter func(ctx context.Context, end context.CancelCauseFunc, p *controlPlane, listener net.Listener, say *progress) error

// serve starts what start does, says so, and waits for the end.
func (o *serverOptions) serve(ctx context.Context, start starter, is whole) error {
	if err := o.check(); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.level)); err != nil {
		return fmt.Errorf("--log-level %q: %w", o.level, err)
	}
	binder, err := readScheduler(o.scheduler)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log)
	life, end := context.WithCancelCause(ctx)
	defer end(nil)
	takeUpstreamLog(life, log.Handler(), o.Stderr)
	held, err := acquireLock(o.DataDir)
	if err != nil {
		return err
	}
	defer held.Close()
	if o.profiles != "" {
		if err := serveProfiles(life, o.profiles); err != nil {
			return err
		}
	}
	listener, err := listen(o.listen)
	if err != nil {
		return err
	}
	p := &controlPlane{log: log, name: fmt.Sprintf("%s-%d", hostname(), os.Getpid()), stopped: make(chan error, 1), checkpoints: o.checkpoints, binder: binder, grace: o.grace}
	say := newProgress(o.Stdout)
	// Most of a start is upstream's API server, which makes its tables once: to
	// collect garbage meanwhile costs a quarter more. What it leaves is not given back
	// at once: the first pods would touch as much anew (decision 0397).
	usual := debug.SetGCPercent(startGC)
	started := make(chan error, 1)
	go func() { started <- start(life, end, p, listener, say) }()
	select {
	case err = <-started:
	case <-life.Done():
		err = context.Cause(life)
	}
	debug.SetGCPercent(usual)
	if err != nil {
		// Upstream takes up to a minute to stop what has half started. What is kept
		// outlives a crash, so that the end of the process will do, but for what would
		// outlive that.
		if is.undo != nil {
			err = errors.Join(err, is.undo())
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	go serverHeadroom.keep(life, p.nodes)
	fmt.Fprintf(o.Stdout, "\nReady. The kubeconfig is %s; next, in another terminal:\n\n"+
		"  export KUBECONFIG=%[1]s\n  %[2]s kubectl %[3]s\n\n", o.Kubeconfig(), whatToType(), is.next)
	if err := forgetProgram(); err != nil {
		log.Info("the program's pages stay resident", "err", err)
	}
	select {
	case err = <-p.stopped:
	case <-ctx.Done():
		fmt.Fprintln(o.Stdout, "Stopping. "+is.end)
	}
	end(nil)
	return errors.Join(err, p.close())
}

// whatToType is how a person calls this program: by its name where the shell
// finds it, and by its path elsewhere.
func whatToType() string {
	const name = "reprise"
	self, err := os.Executable()
	if _, missing := exec.LookPath(name); missing == nil || err != nil {
		return name
	}
	return self
}

// start starts the control plane alone.
func (o *serverOptions) start(ctx context.Context, _ context.CancelCauseFunc, p *controlPlane, listener net.Listener, say *progress) error {
	return o.startServer(ctx, p, listener, say)
}

// startServer starts the control plane: each part when what it rests on is there.
func (o *serverOptions) startServer(ctx context.Context, p *controlPlane, listener net.Listener, say *progress) error {
	if err := p.startLog(ctx, o.environment); err != nil {
		return err
	}
	say.say("the log is open, at sequence %d", p.history.Folded())
	if err := p.startSealing(ctx, o.environment, o.encryption); err != nil {
		return err
	}
	if err := p.startAPI(ctx, o.environment, listener); err != nil {
		return err
	}
	say.say("the API listens on %s", listener.Addr())
	if err := p.serveBus(ctx); err != nil {
		return err
	}
	return p.startDeciders(ctx)
}

// checkNATSAddress keeps the log off the network: without TLS, which is not there
// yet, what nodes and operators say to NATS could be read and changed on the way.
func checkNATSAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("--nats-listen %q is no host:port", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--nats-listen %s: NATS speaks in the clear for now and must stay on this machine; give it an address such as 127.0.0.1:4222", address)
	}
	return nil
}

// listen takes the API's port before anything is started.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	var call *os.SyscallError
	if errors.As(err, &call) && errors.Is(call.Err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program listens on %s: stop it (`ss -ltnp` shows which), or give --listen another address", address)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return l, nil
}
