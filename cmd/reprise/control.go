package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/agents/api/seal"
	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/bus/presence"
	"github.com/reprise-run/reprise/agents/controllers/deployment"
	"github.com/reprise-run/reprise/agents/controllers/garbage"
	"github.com/reprise-run/reprise/agents/controllers/namespace"
	"github.com/reprise-run/reprise/agents/controllers/nodelifecycle"
	"github.com/reprise-run/reprise/agents/controllers/podgc"
	"github.com/reprise-run/reprise/agents/controllers/recorder"
	"github.com/reprise-run/reprise/agents/controllers/replicaset"
	"github.com/reprise-run/reprise/agents/controllers/roleaggregation"
	"github.com/reprise-run/reprise/agents/controllers/rootca"
	"github.com/reprise-run/reprise/agents/controllers/serviceaccount"
	"github.com/reprise-run/reprise/agents/node"
	"github.com/reprise-run/reprise/agents/notary"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/live"
)

// controlPlane is everything of a cluster but its nodes: the log with its
// committer, the projections, the API and the deciders. Each part is started
// when what it rests on is there, and stopped before that.
type controlPlane struct {
	log      *slog.Logger
	name     string // tells this server's process from others
	history  *live.Live
	volatile *live.Live
	presence *presence.Presence
	hearing  chan struct{} // closed when presence hears nodes
	reader   history.Reader
	proposer events.Proposer
	// last says where the history ends.
	last   func(context.Context) (uint64, error)
	sealer *seal.Keeper
	api    *api.Server
	server *jetstream.Server
	signer *notary.Signer
	// checkpoints says when the signer signs.
	checkpoints notaryOptions
	nats        *nats.Conn
	closers     []func() error
	stopped     chan error // holds why a part stopped by itself
	binder      *scheduler.Scheduler
	grace       time.Duration // for how long a node may be silent
}

// nodes is how many the cluster has.
func (p *controlPlane) nodes() (n int) {
	for range p.history.View().List("", "nodes", "") {
		n++
	}
	return n
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

// beyond returns a context for what is started under ctx and goes on after the
// start: it ends with ctx, so that a long start can be interrupted, until started
// is called, and from then on with the control plane.
func (p *controlPlane) beyond(ctx context.Context) (after context.Context, started func()) {
	after, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.onClose(func() error { cancel(); return nil })
	release := context.AfterFunc(ctx, cancel)
	return after, func() { release() }
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
	follow, started := p.beyond(ctx)
	defer started()
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
	p.startPresence(ctx)
	return p.startCommitters(ctx, history, volatile)
}

// startPresence begins to hear nodes, and to tell the other servers. The committer hears those
// that propose, and so comes after it, and ends before.
func (p *controlPlane) startPresence(ctx context.Context) {
	p.presence, p.hearing = presence.New(p.volatile, node.LeaseDuration, time.Now), make(chan struct{})
	p.keep(ctx, "the presence of the nodes", func(ctx context.Context) error {
		return p.presence.Serve(ctx, p.nats, subjectPrefix, func() { close(p.hearing) })
	})
}

// gatherVolatile is for how long what agents write of volatile objects waits for more of it:
// notes for people, and Leases that nobody waits for. An append of one is several syncs, as
// one of a thousand is.
const gatherVolatile = 50 * time.Millisecond

// startCommitters stands for election as the one who appends, to both logs, and
// finds the way to whoever does.
func (p *controlPlane) startCommitters(ctx context.Context, history, volatile events.Log) error {
	h := committer.New(history, p.history, committer.Options{Shape: projections.CheckShape, Singly: -1})
	v := committer.New(volatile, p.volatile, committer.Options{Volatile: true, Shape: projections.CheckShape, Gather: gatherVolatile, Group: events.MaxBatch})
	local := committer.Route{History: h, Volatile: v}
	lease, err := jetstream.NewLease(p.nats, jetstream.Config{}, "committer", p.name)
	if err != nil {
		return err
	}
	p.keep(ctx, "the election of the committer", func(ctx context.Context) error {
		return committer.Elect(ctx, lease, func(ctx context.Context) error {
			stop, err := jetstream.ServeProposals(p.nats, subjectPrefix, local, p.presence.Note)
			if err != nil {
				return err
			}
			defer stop()
			group, ctx := errgroup.WithContext(ctx)
			group.Go(func() error { return h.Run(ctx) })
			group.Go(func() error { return v.Run(ctx) })
			return group.Wait()
		}, p.report("the committer"))
	})
	p.proposer = nearest{local: local, remote: jetstream.NewRelay(p.nats, subjectPrefix)}
	return p.awaitCommitter(ctx, lease, h, v)
}

// awaitCommitter returns when somebody takes proposals: this server, or another.
func (p *controlPlane) awaitCommitter(ctx context.Context, lease events.Lease, own ...*committer.Committer) error {
	if holder, err := lease.Holder(ctx); err == nil && holder != "" && holder != p.name {
		return nil
	}
	for _, c := range own {
		select {
		case <-c.Begun():
		case err := <-p.stopped:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// report says in the log who leads, as it changes.
func (p *controlPlane) report(what string) func(leading bool, why error) {
	return func(leading bool, why error) {
		switch {
		case leading:
			p.log.Info("this server runs "+what, "server", p.name)
		case errors.Is(why, context.Canceled): // It is told to stop.
		default:
			p.log.Warn("this server does not run "+what, "server", p.name, "why", why)
		}
	}
}

// nearest proposes to the committer of this process while it leads, and else to
// whoever does.
type nearest struct{ local, remote events.Offerer }

var _ events.Offerer = nearest{}

// Propose implements events.Proposer.
func (n nearest) Propose(ctx context.Context, proposal events.Proposal) (events.Receipt, error) {
	receipt, err := n.local.Propose(ctx, proposal)
	if errors.Is(err, events.ErrUnavailable) {
		return n.remote.Propose(ctx, proposal)
	}
	return receipt, err
}

// Offer implements events.Offerer.
func (n nearest) Offer(ctx context.Context, proposal events.Proposal) (func() (events.Receipt, error), error) {
	answer, err := n.local.Offer(ctx, proposal)
	if errors.Is(err, events.ErrUnavailable) {
		return n.remote.Offer(ctx, proposal)
	}
	if err != nil {
		return nil, err
	}
	return func() (events.Receipt, error) {
		receipt, err := answer()
		if errors.Is(err, events.ErrUnavailable) {
			return n.remote.Propose(ctx, proposal)
		}
		return receipt, err
	}, nil
}

// startAPI serves the Kubernetes API.
func (p *controlPlane) startAPI(ctx context.Context, env *environment, listener net.Listener) error {
	ctx, started := p.beyond(ctx)
	defer started()
	ctx, cancel := context.WithCancel(ctx)
	server, err := api.New(ctx, api.Options{
		Dir:         env.APIDir(),
		Listener:    lingering{listener},
		ServiceCIDR: serviceCIDR,
		History:     storage.Source{Projection: p.history, Proposer: p.proposer},
		Volatile:    storage.Source{Projection: p.volatile, Proposer: p.proposer},
		Actor:       events.Actor{Kind: "api", Version: programVersion},
		Dial:        p.dial,
		Kubeconfig:  env.Kubeconfig(),
		Past:        past.Options{Reader: p.reader, Reveal: p.sealer.RevealEntry},
		Sealer:      p.sealer,
		Log:         p.log,
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

// startDeciders starts the scheduler and the controllers, which run in one server
// at a time.
func (p *controlPlane) startDeciders(ctx context.Context) error {
	lease, err := jetstream.NewLease(p.nats, jetstream.Config{}, "deciders", p.name)
	if err != nil {
		return err
	}
	p.keep(ctx, "the election of who decides", func(ctx context.Context) error {
		return committer.Elect(ctx, lease, func(ctx context.Context) error {
			group, ctx := errgroup.WithContext(ctx)
			o := runner.Options{
				Projection: p.sealer.Reading(p.history), Volatile: p.presence.Over(p.volatile), Proposer: p.proposer, Gate: p.api.Gate(),
				Logger: p.log, Version: programVersion,
			}
			var all []*runner.Runner
			for _, d := range deciders(p.api.CA(), p.binder, p.grace) {
				all = append(all, runner.New(d, o))
			}
			group.Go(func() error {
				if err := runner.Together(ctx, all...); err != nil {
					return err
				}
				return ctx.Err()
			})
			group.Go(func() error { return p.notarize(ctx) })
			group.Go(func() error { return p.sealer.Run(ctx, p.history, p.last) })
			return group.Wait()
		}, p.report("the scheduler and the controllers"))
	})
	return nil
}

// deciders are all that decide, given the certificate authority of the API, the
// scheduler, and for how long a node may be silent. Replay must know each: see replay.Deciders.
func deciders(ca []byte, binds *scheduler.Scheduler, grace time.Duration) []runner.Decider {
	return []runner.Decider{
		binds,
		deployment.New(), replicaset.New(), nodelifecycle.New(nodelifecycle.Options{Grace: grace, Since: time.Now()}), podgc.New(podgc.Options{}),
		namespace.New(), garbage.New(), serviceaccount.New(), rootca.New(ca), roleaggregation.New(),
		recorder.New(),
	}
}
