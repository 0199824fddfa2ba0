package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/near"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/pebble"
)

// startLog starts NATS in this process, opens the two logs on it, and begins to
// follow them.
func (p *controlPlane) startLog(ctx context.Context, env *environment) error {
	var err error
	p.server, err = jetstream.StartServer(jetstream.ServerOptions{
		Dir: env.LogDir(), Listen: env.NATS, Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.onClose(func() error { p.server.Shutdown(); return nil })
	p.keep(ctx, "the log", func(ctx context.Context) error {
		select {
		case <-p.server.Failed():
			return p.server.Err()
		case <-ctx.Done():
			return nil
		}
	})
	if err := os.MkdirAll(env.RunDir, 0o755); err != nil {
		return fmt.Errorf("cannot make the run directory: %w", err)
	}
	if err := os.WriteFile(env.addressFile(), []byte(p.server.Addr()+"\n"), 0o644); err != nil {
		return fmt.Errorf("cannot say where NATS listens: %w", err)
	}
	if p.nats, err = p.server.Connect(); err != nil {
		return err
	}
	p.onClose(func() error { p.nats.Close(); return nil })
	history, err := jetstream.History(ctx, p.nats, jetstream.Config{})
	if err != nil {
		return err
	}
	volatile, err := jetstream.Volatile(ctx, p.nats, jetstream.Config{})
	if err != nil {
		return err
	}
	p.last = history.Last
	store, err := pebble.Open(env.ProjectionDir(), pebble.Options{Log: p.log})
	if err != nil {
		return err
	}
	p.onClose(store.Close)
	p.reader = store
	if err := p.startProjections(ctx, near.New(blocks.ReadAhead(history, env.LogDir(), ""), near.Options{}), near.New(volatile, near.Options{}), store); err != nil {
		return err
	}
	if err := p.openSigner(env, store); err != nil {
		return err
	}
	if err := p.serveIntegrators(ctx, history); err != nil {
		return err
	}
	return p.startHistory(env, history, store)
}

// addressFile holds the address on which the running server's NATS listens.
func (e *environment) addressFile() string { return filepath.Join(e.RunDir, "nats") }

// waitForNode returns once the node says of itself that it is ready, or when a
// part has stopped without which that may never be.
func (p *controlPlane) waitForNode(ctx context.Context, name string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-p.stopped:
			cancel(err)
			p.failed(err) // for whoever waits for the end
		case <-ctx.Done():
		}
	}()
	ref := events.Ref{Resource: "nodes", Name: name}
	for {
		view := p.history.View()
		if e := view.Get(ref); e != nil && ready(projections.As[v1.Node](e)) {
			return nil
		}
		changes, err := p.history.Changes(ctx, view.Sequence())
		if err != nil {
			return err
		}
		if _, err := changes.Next(ctx); err != nil {
			return fmt.Errorf("node %s did not get ready: %w", name, cmp.Or(context.Cause(ctx), err))
		}
	}
}

func ready(n *v1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == v1.NodeReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}
