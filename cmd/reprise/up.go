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
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
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

// newUpCommand starts a whole cluster.
func newUpCommand(env *environment) *cobra.Command {
	o := upOptions{environment: env}
	c := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster of one node on this machine",
		Long: `Starts the log, the API, the scheduler, the controllers and one node. It is the
same cluster at every start: its state is in the data directory. Ctrl-C stops the
control plane and leaves the containers running; 'reprise down' stops them too.`,
		Example: `  reprise up
  reprise up --data-dir /srv/reprise --listen 127.0.0.1:7443`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	c.Flags().StringVar(&o.listen, "listen", defaultListen, "address of the Kubernetes API")
	c.Flags().StringVar(&o.NATS, "nats-listen", defaultNATS, "address of the log's NATS, for nodes and integrators")
	c.Flags().StringVar(&o.node, "node", hostname(), "name of this machine's node")
	c.Flags().StringVar(&o.encryption, "encryption-config", "", "an EncryptionConfiguration of Kubernetes: which resources to encrypt, by which key or KMS v2 plugin (default: Secrets, by a key that is made at the first start)")
	c.Flags().StringVar(&o.level, "log-level", "warn", "what the parts report to standard error: debug, info, warn or error")
	c.Flags().StringVar(&o.scheduler, "scheduler-config", "", "a KubeSchedulerConfiguration: how the scheduler prefers nodes (default: as kube-scheduler does)")
	o.checkpoints.flags(c)
	return c
}

type upOptions struct {
	*environment
	listen, node, level, encryption, scheduler string

	checkpoints notaryOptions
}

// run starts everything, says so, and waits for the end.
func (o *upOptions) run(ctx context.Context) error {
	if err := requireRoot(); err != nil {
		return err
	}
	if wrong := validation.IsDNS1123Subdomain(o.node); wrong != nil {
		return fmt.Errorf("--node %q cannot be the name of a node: %s", o.node, strings.Join(wrong, "; "))
	}
	if err := errors.Join(checkNATSAddress(o.NATS), o.checkpoints.check()); err != nil {
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
	listener, err := listen(o.listen)
	if err != nil {
		return err
	}
	p := &controlPlane{log: log, name: fmt.Sprintf("%s-%d", hostname(), os.Getpid()), stopped: make(chan error, 1), checkpoints: o.checkpoints, binder: binder}
	say := newProgress(o.Stdout)
	// Most of a start is upstream's API server, which makes its tables once: to
	// collect garbage meanwhile costs a quarter more. Afterwards it is given back.
	usual := debug.SetGCPercent(startGC)
	started := make(chan error, 1)
	go func() { started <- o.start(life, end, p, listener, say) }()
	select {
	case err = <-started:
	case <-life.Done():
		err = context.Cause(life)
	}
	debug.SetGCPercent(usual)
	if err != nil {
		// Upstream takes up to a minute to stop what has half started. What is kept
		// outlives a crash, so that the end of the process will do.
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	go debug.FreeOSMemory()
	fmt.Fprintf(o.Stdout, "\nReady. The kubeconfig is %s; next, in another terminal:\n\n"+
		"  export KUBECONFIG=%[1]s\n  %[2]s kubectl get nodes\n\n", o.Kubeconfig(), whatToType())
	select {
	case err = <-p.stopped:
	case <-ctx.Done():
		fmt.Fprintln(o.Stdout, "Stopping. Containers go on; `reprise down` stops them too.")
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

// start starts the control plane and the node side by side, as far as one does
// not rest on the other. If one fails it ends ctx, and so the other.
func (o *upOptions) start(ctx context.Context, end context.CancelCauseFunc, p *controlPlane, listener net.Listener, say *progress) error {
	var group errgroup.Group
	side := func(start func() error) {
		group.Go(func() error {
			err := start()
			if err != nil {
				end(err)
			}
			return err
		})
	}
	var w *worker
	side(func() (err error) {
		if w, err = startRuntime(ctx, o.environment, o.node, p.log); err == nil {
			say.say("containerd runs")
		}
		return err
	})
	side(func() error {
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
	})
	err := group.Wait()
	if w != nil {
		p.onClose(w.runtime.Close)
	}
	if err != nil {
		return err
	}
	c, err := p.connect(ctx, o.node)
	if err != nil {
		return err
	}
	p.onClose(c.close)
	p.keep(ctx, "the node's agent", func(ctx context.Context) error { return w.run(ctx, c) })
	if err := p.waitForNode(ctx, o.node); err != nil {
		return err
	}
	say.say("node %s is ready", o.node)
	return nil
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
