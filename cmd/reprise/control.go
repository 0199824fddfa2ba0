package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/nats-io/nats.go"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/controllers/deployment"
	"github.com/reprise-run/reprise/agents/controllers/namespace"
	"github.com/reprise-run/reprise/agents/controllers/replicaset"
	"github.com/reprise-run/reprise/agents/controllers/roleaggregation"
	"github.com/reprise-run/reprise/agents/controllers/rootca"
	"github.com/reprise-run/reprise/agents/controllers/serviceaccount"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/projections/live"
)

// controlPlane is everything of a cluster but its nodes: the log with its
// committer, the projections, the API and the deciders. Each part is started
// when what it rests on is there, and stopped before that.
type controlPlane struct {
	log      *slog.Logger
	history  *live.Live
	volatile *live.Live
	proposer events.Proposer
	api      *api.Server
	nats     *nats.Conn
	closers  []func() error
	stopped  chan error // holds why a part stopped by itself
}

// close stops everything in the reverse order of its start.
func (p *controlPlane) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// onClose has f called when the control plane stops.
func (p *controlPlane) onClose(f func() error) { p.closers = append(p.closers, f) }

// keep runs f until the control plane stops, and reports the end of f that
// comes before.
func (p *controlPlane) keep(ctx context.Context, what string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := f(ctx)
		if ctx.Err() == nil {
			p.failed(fmt.Errorf("%s has stopped: %w", what, err))
		}
	}()
	p.onClose(func() error {
		cancel()
		<-done
		return nil
	})
}

// failed ends the control plane for a reason; the first one counts.
func (p *controlPlane) failed(err error) {
	select {
	case p.stopped <- err:
	default:
	}
}

// startProjections begins to follow both logs and starts their committers.
func (p *controlPlane) startProjections(ctx context.Context, history, volatile events.Log, store live.Store) error {
	follow := context.WithoutCancel(ctx)
	var err error
	if p.history, err = live.Start(follow, history, live.Options{Store: store, Log: p.log}); err != nil {
		return fmt.Errorf("cannot fold the log: %w", err)
	}
	p.onClose(p.history.Close)
	if p.volatile, err = live.Start(follow, volatile, live.Options{Volatile: true, Log: p.log}); err != nil {
		return fmt.Errorf("cannot fold the log of volatile objects: %w", err)
	}
	p.onClose(p.volatile.Close)
	for _, l := range []*live.Live{p.history, p.volatile} {
		go func() {
			<-l.Done()
			if err := l.Err(); !errors.Is(err, live.ErrClosed) {
				p.failed(err)
			}
		}()
	}
	h := committer.New(history, p.history, committer.Options{})
	v := committer.New(volatile, p.volatile, committer.Options{Volatile: true})
	p.keep(ctx, "the committer", h.Run)
	p.keep(ctx, "the committer of volatile objects", v.Run)
	for _, c := range []*committer.Committer{h, v} {
		select {
		case <-c.Begun():
		case err := <-p.stopped:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.proposer = committer.Route{History: h, Volatile: v}
	return nil
}

// startAPI serves the Kubernetes API.
func (p *controlPlane) startAPI(ctx context.Context, env *environment, listener net.Listener) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	server, err := api.New(ctx, api.Options{
		Dir:         env.APIDir(),
		Listener:    listener,
		ServiceCIDR: serviceCIDR,
		History:     storage.Source{Projection: p.history, Proposer: p.proposer},
		Volatile:    storage.Source{Projection: p.volatile, Proposer: p.proposer},
		Actor:       events.Actor{Kind: "api", Version: programVersion},
		Kubeconfig:  env.Kubeconfig(),
	})
	if err != nil {
		cancel()
		return err
	}
	p.api = server
	p.onClose(func() error {
		cancel()
		<-server.Done()
		return nil
	})
	go func() {
		<-server.Done()
		if ctx.Err() == nil {
			p.failed(fmt.Errorf("the API server has stopped: %w", server.Err()))
		}
	}()
	return nil
}

// startDeciders starts the scheduler and the controllers.
func (p *controlPlane) startDeciders(ctx context.Context) {
	for _, d := range []runner.Decider{
		scheduler.New("default-scheduler"),
		deployment.New(), replicaset.New(), namespace.New(), serviceaccount.New(),
		rootca.New(p.api.CA()), roleaggregation.New(),
	} {
		r := runner.New(d, runner.Options{
			Projection: p.history, Volatile: p.volatile, Proposer: p.proposer, Gate: p.api.Gate(),
			Logger: p.log, Version: programVersion,
		})
		p.keep(ctx, d.Actor().String(), r.Run)
	}
}

// tokensOf asks the API for tokens of service accounts as a node.
func (p *controlPlane) tokensOf(node string) func(context.Context, string, string, *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	return func(ctx context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
		return p.api.Token(ctx, node, namespace, account, req)
	}
}
