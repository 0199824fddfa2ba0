package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
)

// newUpCommand starts a whole cluster.
func newUpCommand(env *environment) *cobra.Command {
	o := upOptions{serverOptions: serverOptions{environment: env}, begun: make(chan struct{})}
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
	c.Flags().StringVar(&o.node, "node", hostname(), "name of this machine's node")
	o.flags(c)
	return c
}

type upOptions struct {
	serverOptions
	node string
	// begun is closed when the node's runtime has started, or has failed to. Until the
	// rest has started too, it is here to be withdrawn.
	begun   chan struct{}
	waiting atomic.Pointer[worker]
}

// run starts everything, says so, and waits for the end.
func (o *upOptions) run(ctx context.Context) error {
	if err := requireRoot("starting"); err != nil {
		return err
	}
	if wrong := validation.IsDNS1123Subdomain(o.node); wrong != nil {
		return fmt.Errorf("--node %q cannot be the name of a node: %s", o.node, strings.Join(wrong, "; "))
	}
	return o.serve(ctx, o.start, whole{
		next: "get nodes",
		end:  "Containers go on; `reprise down` stops them too.",
		undo: o.withdraw,
	})
}

// withdraw ends the containerd that a start has begun to run which then failed.
func (o *upOptions) withdraw() error {
	<-o.begun
	if w := o.waiting.Swap(nil); w != nil {
		return w.runtime.Withdraw()
	}
	return nil
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
	side(func() error {
		defer close(o.begun)
		w, err := startRuntime(ctx, o.environment, o.node, p.log)
		if err == nil {
			o.waiting.Store(w)
			say.say("containerd runs")
		}
		return err
	})
	side(func() error { return o.startServer(ctx, p, listener, say) })
	if err := group.Wait(); err != nil {
		return err
	}
	w := o.waiting.Swap(nil)
	if w == nil {
		return context.Cause(ctx)
	}
	p.onClose(w.runtime.Close)
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
