package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/agents/bus/calls"
	"github.com/reprise-run/reprise/agents/bus/feed"
	"github.com/reprise-run/reprise/agents/bus/presence"
	"github.com/reprise-run/reprise/agents/bus/tunnel"
	"github.com/reprise-run/reprise/agents/node/volumes"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections/live"
)

// connection is a node's one connection to the servers, and what it carries.
type connection struct {
	Projection live.Projection
	Proposer   *jetstream.Remote
	Tokens     volumes.Tokens
	Alive      func(context.Context) (renew bool, err error)
	Listener   net.Listener

	nats *nats.Conn
}

func (c *connection) close() error {
	var err error
	if c.Listener != nil {
		err = c.Listener.Close()
	}
	c.nats.Close()
	return err
}

// serveBus serves the nodes: their feeds and their requests. At last it lets them in.
func (p *controlPlane) serveBus(ctx context.Context) error {
	serving := make(chan struct{})
	p.keep(ctx, "the feed of the nodes", func(ctx context.Context) error {
		return feed.Serve(ctx, p.nats, subjectPrefix, p.sealer.Feeding(p.history), p.log, p.presence.Hear, func() { close(serving) })
	})
	stop, err := calls.Serve(p.nats, subjectPrefix, p.api.Token)
	if err != nil {
		return err
	}
	p.onClose(func() error { stop(); return nil })
	for _, ready := range []chan struct{}{serving, p.hearing} {
		select {
		case <-ready:
		case err := <-p.stopped:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.serveRoster(ctx)
}

// dial connects the API server to the agent of a node.
func (p *controlPlane) dial(ctx context.Context, node string) (net.Conn, error) {
	to, err := bus.NewNode(subjectPrefix, node)
	if err != nil {
		return nil, err
	}
	return tunnel.Dial(ctx, p.nats, to)
}

// connect gives a node its NATS user, whose permissions let it speak of itself
// alone, and connects as that user.
func (p *controlPlane) connect(ctx context.Context, name string) (*connection, error) {
	node, err := bus.NewNode(subjectPrefix, name)
	if err != nil {
		return nil, err
	}
	publish, subscribe := node.Permissions()
	seed, err := p.server.AddUser("node-"+name, jetstream.Permissions{Publish: publish, Subscribe: subscribe})
	if err != nil {
		return nil, err
	}
	as, err := jetstream.WithSeed(seed)
	if err != nil {
		return nil, err
	}
	nc, err := jetstream.Connect("nats://"+p.server.Addr(), as, node.Inbox(), nats.Name("node "+name), nats.RetryOnFailedConnect(true))
	if err != nil {
		return nil, fmt.Errorf("node %s cannot connect to NATS: %w", name, err)
	}
	c := &connection{nats: nc}
	if err := c.open(ctx, p, node, name); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *connection) open(ctx context.Context, p *controlPlane, node bus.Node, name string) error {
	var err error
	if c.Listener, err = tunnel.Listen(c.nats, node); err != nil {
		return err
	}
	if c.Proposer, err = jetstream.NewProposer(c.nats, subjectPrefix, events.Actor{Kind: "node", Name: name}); err != nil {
		return err
	}
	c.Tokens = calls.NewClient(c.nats, node).Token
	follow, started := p.beyond(ctx)
	defer started()
	mirror, err := feed.Follow(follow, c.nats, node, feed.Options{Log: p.log})
	if err != nil {
		return err
	}
	c.Projection, c.Alive = mirror, alive(mirror, c.nats, node)
	return nil
}

// alive is how a node says that it is there: with the question how far its feed is, and by
// a call of its own if that is heard by nobody.
func alive(of *feed.Mirror, nc *nats.Conn, at bus.Node) func(context.Context) (renew bool, err error) {
	return heard(of.Alive, func(ctx context.Context) (bool, error) { return presence.Alive(ctx, nc, at) })
}

// heard calls if asking is heard by nobody. If a server only is slow to answer, the node waits
// no longer: it renews its Lease.
func heard(ask, call func(context.Context) (renew bool, err error)) func(context.Context) (renew bool, err error) {
	return func(ctx context.Context) (bool, error) {
		renew, err := ask(ctx)
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			return renew, err
		}
		return call(ctx)
	}
}
