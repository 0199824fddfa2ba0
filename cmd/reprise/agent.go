package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/agents/bus/roster"
	"github.com/reprise-run/reprise/agents/crew"
	"github.com/reprise-run/reprise/agents/sim/hollow"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

const (
	// sharing is how many hollow nodes share one connection.
	sharing = 250
	// joining is how many hollow nodes join at a time.
	joining = 32
	// maxCPUs and maxMemory, in GiB, are more than machines have, and so little that sums over
	// all hollow nodes, in thousandths of a processor and in bytes, are far from overflowing.
	maxCPUs   = 1_000_000
	maxMemory = 1 << 18
)

// newAgentCommand runs nodes beside a server that runs elsewhere.
func newAgentCommand(env *environment) *cobra.Command {
	o := agentOptions{environment: env}
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run hollow nodes: many in one process, whose containers are make-believe",
		Long: `Runs nodes whose agent is the real one and whose container runtime is simulated:
containers start, run and end as a profile says, and cost a few kilobytes each. It
shows what a large cluster would do to the servers, on one machine.

The server is found by its run directory, and asked, with the rights of whoever may
read its data directory, to admit the nodes. Ctrl-C leaves the nodes silent, as if
their machines were off; start it again and they find their containers gone.`,
		Example: `  reprise agent --hollow 50
  reprise agent --hollow 5000 --seed 7 --profile slow.yaml --data-dir /tmp/a --run-dir /tmp/a/run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	c.Flags().IntVar(&o.hollow, "hollow", 0, fmt.Sprintf("how many hollow nodes to run, at most %d", hollow.MaxNodes))
	c.Flags().StringVar(&o.prefix, "name-prefix", "hollow-", "what the names of the nodes begin with; a number follows")
	c.Flags().Uint64Var(&o.seed, "seed", 1, "what is drawn, such as start times, is drawn from this")
	c.Flags().StringVar(&o.profile, "profile", "", "a file that says how long things take and what fails (default: all works at once); see 'go doc ./agents/sim/hollow Profile'")
	c.Flags().IntVar(&o.cpus, "node-cpus", 32, fmt.Sprintf("processors of each node, at most %d", maxCPUs))
	c.Flags().IntVar(&o.memory, "node-memory", 256, fmt.Sprintf("memory of each node, GiB, at most %d", maxMemory))
	c.Flags().IntVar(&o.pods, "node-pods", 110, fmt.Sprintf("how many pods each node takes, at most %d", hollow.MaxPods))
	c.Flags().StringVar(&o.profiles, "pprof", "", "an address of this machine on which to answer go tool pprof, as in 127.0.0.1:6060 (default: none)")
	c.Flags().StringVar(&o.level, "log-level", "warn", "what the nodes report to standard error: debug, info, warn or error")
	return c
}

type agentOptions struct {
	*environment
	hollow                           int
	prefix, profile, level, profiles string
	seed                             uint64
	cpus, memory, pods               int
}

func (o *agentOptions) check() error {
	switch {
	case o.hollow < 0:
		return fmt.Errorf("--hollow %d: the number of nodes must be at least 1", o.hollow)
	case o.hollow == 0:
		return errors.New("say how many nodes to run: reprise agent --hollow N (a node with real containers is part of `reprise up`)")
	case o.hollow > hollow.MaxNodes:
		return fmt.Errorf("--hollow %d: more than %d nodes have no addresses of their own", o.hollow, hollow.MaxNodes)
	case o.cpus <= 0 || o.memory <= 0 || o.pods <= 0:
		return errors.New("--node-cpus, --node-memory and --node-pods must be more than nothing")
	case o.cpus > maxCPUs:
		return fmt.Errorf("--node-cpus %d: no machine has more than %d processors", o.cpus, maxCPUs)
	case o.memory > maxMemory:
		return fmt.Errorf("--node-memory %d: no machine has more than %d GiB (256 TiB); the number is of GiB", o.memory, maxMemory)
	case o.pods > hollow.MaxPods:
		return fmt.Errorf("--node-pods %d: more than %d pods have no addresses of their own on a node", o.pods, hollow.MaxPods)
	}
	if wrong := validation.IsDNS1123Subdomain(o.name(0)); wrong != nil {
		return fmt.Errorf("--name-prefix %q cannot begin the name of a node: %s", o.prefix, strings.Join(wrong, "; "))
	}
	return nil
}

func (o *agentOptions) name(i int) string { return fmt.Sprintf("%s%d", o.prefix, i) }

// run joins all nodes to the cluster, says so, and runs them until ctx ends.
func (o *agentOptions) run(ctx context.Context) error {
	if err := o.check(); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.level)); err != nil {
		return fmt.Errorf("--log-level %q: %w", o.level, err)
	}
	f := &fleet{
		o: o, log: slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: level})),
		timeline: hollow.NewTimeline(clock.RealClock{}), crew: crew.New(ctx), joining: make(chan struct{}, joining), joined: make(chan struct{}, o.hollow),
	}
	if o.profile != "" {
		data, err := os.ReadFile(o.profile)
		if err == nil {
			f.profile, err = hollow.ReadProfile(data)
		}
		if err != nil {
			return fmt.Errorf("--profile: %w", err)
		}
	}
	go hollowHeadroom.keep(ctx, nil)
	if o.profiles != "" {
		if err := serveProfiles(ctx, o.profiles); err != nil {
			return err
		}
	}
	say := newProgress(o.Stdout)
	connections, err := o.connect(ctx, f.log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { f.timeline.Run(ctx); return nil })
	for i, nc := range connections {
		defer nc.Close()
		for n := i * sharing; n < min((i+1)*sharing, o.hollow); n++ {
			group.Go(func() error { return f.run(ctx, nc, n) })
		}
	}
	group.Go(func() error {
		for range o.hollow {
			select {
			case <-f.joined:
			case <-ctx.Done():
				return nil
			}
		}
		say.say("%s%s", o.ready(), footprint())
		fmt.Fprint(o.Stdout, "\nReady.\n")
		return nil
	})
	err = group.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// ready says which nodes are.
func (o *agentOptions) ready() string {
	if o.hollow == 1 {
		return fmt.Sprintf("1 hollow node is ready: %s", o.name(0))
	}
	return fmt.Sprintf("%d hollow nodes are ready: %s to %s", o.hollow, o.name(0), o.name(o.hollow-1))
}

// footprint is what this process has used so far, in words, empty where it cannot be
// told.
func footprint() string {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return ""
	}
	cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return fmt.Sprintf(" (%d MB resident at most, %s of CPU)", used.Maxrss>>10, cpu.Round(10*time.Millisecond))
}

// connect gets the nodes admitted and returns their connections.
func (o *agentOptions) connect(ctx context.Context, log *slog.Logger) ([]*nats.Conn, error) {
	as, url, err := o.connectAsOperator()
	if err != nil {
		return nil, err
	}
	defer as.Close()
	var all []*nats.Conn
	for first := 0; first < o.hollow; first += sharing {
		c := events.Credential{Name: strings.Trim(fmt.Sprintf("%s%d", o.prefix, first), "-.")}
		for i := first; i < min(first+sharing, o.hollow); i++ {
			c.Nodes = append(c.Nodes, o.name(i))
		}
		nc, err := admitted(ctx, as, url, c, log)
		if err != nil {
			for _, open := range all {
				open.Close()
			}
			return nil, err
		}
		all = append(all, nc)
	}
	return all, nil
}

// admitted has nodes admitted with a new key, and connects by it.
func admitted(ctx context.Context, as *nats.Conn, url string, c events.Credential, log *slog.Logger) (*nats.Conn, error) {
	nodes, err := bus.NewNodes(subjectPrefix, c.Name, c.Nodes)
	if err != nil {
		return nil, err
	}
	key, err := nkeys.CreateUser()
	if err == nil {
		c.Key, err = key.PublicKey()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	if err := roster.Admit(ctx, as, subjectPrefix, c); err != nil {
		return nil, err
	}
	return jetstream.Connect(url, append(lasting(log.With("nodes", c.Name)),
		nats.Nkey(c.Key, key.Sign), nodes.Inbox(), nats.Name("nodes "+c.Name), nats.Timeout(30*time.Second))...)
}

// shunned is for how long nodes may be refused before they are given up. A server
// that starts listens before it has read whom it has admitted.
const shunned = 5 * time.Minute

// lasting has a connection of nodes outlive the servers: it comes back when one
// starts again, whatever that says at first.
func lasting(log *slog.Logger) []nats.Option {
	var since, newest time.Time // refusals; the handlers of a connection are called one after the other
	return []nats.Option{
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectHandler(func(*nats.Conn) {
			since = time.Time{}
			log.Info("connected again")
		}),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			if !errors.Is(err, nats.ErrAuthorization) {
				log.Warn("the connection of the nodes has trouble", "error", err)
				return
			}
			now := time.Now()
			if since.IsZero() || now.Sub(newest) > time.Minute { // The server was away meanwhile.
				since = now
			}
			if newest = now; now.Sub(since) > shunned {
				log.Error("the servers do not admit these nodes any more", "since", since)
				nc.Close()
			}
		}),
	}
}
