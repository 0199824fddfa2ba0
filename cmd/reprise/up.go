package main

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
)

// newUpCommand starts a whole cluster.
func newUpCommand(env *environment) *cobra.Command {
	o := upOptions{serverOptions: serverOptions{environment: env}}
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
}

// run starts everything, says so, and waits for the end.
func (o *upOptions) run(ctx context.Context) error {
	if err := requireRoot(); err != nil {
		return err
	}
	if wrong := validation.IsDNS1123Subdomain(o.node); wrong != nil {
		return fmt.Errorf("--node %q cannot be the name of a node: %s", o.node, strings.Join(wrong, "; "))
	}
	return o.serve(ctx, o.start, whole{
		next: "get nodes",
		end:  "Containers go on; `reprise down` stops them too.",
	})
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
	side(func() error { return o.startServer(ctx, p, listener, say) })
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
