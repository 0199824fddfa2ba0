package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// Options are what a Runner needs. Projection and Proposer must be set.
type Options struct {
	Projection live.Projection
	// Volatile follows the log of volatile objects, for deciders that look at
	// leases.
	Volatile live.Projection
	Proposer events.Proposer
	// Gate takes the commands; nil for deciders that have none.
	Gate Gate
	// Clock is the real one by default.
	Clock clock.Clock
	// Logger is slog.Default by default.
	Logger *slog.Logger
	// Version of the program, for the actor.
	Version string
	// Workers is how many items are decided at a time; 16 by default, and as many
	// as a batch of the log holds for a Patient decider.
	Workers int
}

// Runner drives one decider.
type Runner struct {
	Options
	decider Decider
	actor   events.Actor
	setup   []byte        // of a Tuned decider
	gather  time.Duration // of a Patient decider
}

// New returns a runner of the decider.
func New(d Decider, o Options) *Runner {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	var gather time.Duration
	if p, ok := d.(Patient); ok {
		gather = p.Gather()
	}
	switch {
	case o.Workers > 0:
	case gather > 0:
		o.Workers = maxDecisions
	default:
		o.Workers = 16
	}
	actor := d.Actor()
	actor.Version = o.Version
	o.Logger = o.Logger.With("actor", actor.String())
	r := &Runner{Options: o, decider: d, actor: actor, gather: gather}
	if t, ok := d.(Tuned); ok {
		r.setup = t.Setup()
	}
	return r
}

// Run drives the decider until the context ends, which is no error. It fails if
// the projection stops.
func (r *Runner) Run(ctx context.Context) error {
	for {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, live.ErrTooOld) {
			return err
		}
		r.Logger.Info("fell too far behind the log; starting again from a view")
	}
}

// follow is the loop of the package comment, from a view onward.
func (r *Runner) follow(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	l := &loop{Runner: r, queue: newQueue(r.gather), threads: goroutines{}, done: make(chan []result), stopped: make(chan error, 2)}
	l.give = func(all []result) { l.done <- all }
	defer func() {
		stop()
		l.drain()
	}()
	if err := l.start(ctx); err != nil {
		return err
	}
	for {
		l.queue.advance(r.now())
		l.dispatch(ctx)
		wake, cancel := l.timer()
		select {
		case c := <-l.changes:
			l.concern(c, false)
		case c := <-l.churn:
			l.concern(c, true)
		case all := <-l.done:
			l.finish(all)
		case <-wake:
		case err := <-l.stopped:
			cancel()
			return err
		case <-ctx.Done():
			cancel()
			return ctx.Err()
		}
		cancel()
	}
}

// loop is the state of follow.
type loop struct {
	*Runner
	queue   *queue
	threads Threads
	give    func([]result)            // called by a worker that has ended
	running int                       // items are with workers
	changes chan []projections.Change // of the history
	churn   chan []projections.Change // of the volatile objects
	done    chan []result
	stopped chan error
}

type result struct {
	it *entry
	outcome
}

// start marks what concerns the objects there are, and follows what comes.
func (l *loop) start(ctx context.Context) error {
	v := l.view()
	l.queue.fold(v.Sequence())
	l.markAll(v, v.Reader, false)
	var err error
	if l.changes, err = l.pump(ctx, l.Projection, v.Sequence()); err != nil {
		return err
	}
	if l.Volatile != nil {
		l.markAll(v, v.Volatile, true)
		l.churn, err = l.pump(ctx, l.Volatile, v.Volatile.Sequence())
	}
	return err
}

// markAll treats every object as just created.
func (l *loop) markAll(v View, objects projections.Reader, volatile bool) {
	for resource := range objects.Resources() {
		for e := range objects.List(resource.Group, resource.Resource, "") {
			ev := &events.Event{Sequence: e.Sequence, Object: e.Ref, UID: e.UID}
			l.mark(v, projections.Change{Event: ev, After: e}, volatile)
		}
	}
}

// pump reads changes into a channel, many at a time when the loop is busy.
func (l *loop) pump(ctx context.Context, p live.Projection, after uint64) (chan []projections.Change, error) {
	changes, err := p.Changes(ctx, after)
	if err != nil {
		return nil, fmt.Errorf("cannot follow the changes after sequence %d: %w", after, err)
	}
	out := make(chan []projections.Change)
	go func() {
		for {
			batch, err := changes.Next(ctx)
			if err != nil {
				l.stopped <- err
				return
			}
			select {
			case out <- batch:
			case <-ctx.Done():
				l.stopped <- ctx.Err()
				return
			}
		}
	}()
	return out, nil
}

func (l *loop) view() View {
	// The volatile view first: what it shows of a node may be newer than the
	// history's, but a decision is only as old as its basis.
	v := View{}
	if l.Volatile != nil {
		v.Volatile = l.Volatile.View()
	}
	v.Reader = l.Projection.View()
	return v
}

// concern marks what the changes concern.
func (l *loop) concern(changes []projections.Change, volatile bool) {
	v := l.view()
	l.queue.fold(v.Sequence())
	for _, c := range changes {
		l.mark(v, c, volatile)
	}
}

func (l *loop) mark(v View, c projections.Change, volatile bool) {
	because := c.Event.Sequence
	if volatile {
		because = 0
	}
	for _, ref := range l.concerns(v, c) {
		l.queue.mark(ref, because)
	}
}

// concerns asks the decider. A bug in it costs the change its hearing, not the
// whole program.
func (l *loop) concerns(v View, c projections.Change) []events.Ref {
	defer func() {
		if p := recover(); p != nil {
			l.Logger.Error("cannot tell what a change concerns", "object", c.Event.Object.String(), "sequence", c.Event.Sequence,
				"error", fmt.Errorf("a bug in the decider: %v\n%s", p, debug.Stack()))
		}
	}()
	return l.decider.Concerns(v, c)
}

// dispatch hands items to workers, each with the newest view. The items of a Patient
// decider go to one worker together.
func (l *loop) dispatch(ctx context.Context) {
	most := 1
	if l.gather > 0 {
		most = maxDecisions
	}
	for l.running < l.Workers {
		its, items := l.take(min(most, l.Workers-l.running))
		if len(its) == 0 {
			return
		}
		l.running += len(its)
		l.threads.Go(func() {
			all := make([]result, len(its))
			for i, o := range l.work(ctx, items) {
				all[i] = result{its[i], o}
			}
			l.give(all)
		})
	}
}

// take takes some items out of the queue.
func (l *loop) take(most int) (its []*entry, items []Item) {
	for len(its) < most {
		it := l.queue.next(l.now())
		if it == nil {
			break
		}
		its, items = append(its, it), append(items, it.Item)
	}
	return its, items
}

// finish takes items back from their worker.
func (l *loop) finish(all []result) {
	l.running -= len(all)
	for _, d := range all {
		l.queue.finish(d.it, d.outcome, l.now())
	}
}

// drain waits for the workers.
func (l *loop) drain() {
	for l.running > 0 {
		l.running -= len(<-l.done)
	}
}

// timer rings when the queue has something to do.
func (l *loop) timer() (ring <-chan time.Time, cancel func()) {
	at := l.queue.until(l.now())
	if at.IsZero() {
		return nil, func() {}
	}
	t := l.Clock.NewTimer(max(at.Sub(l.now()), 0))
	return t.C(), func() { t.Stop() }
}

// now is the time as deciders get it: what an event can record.
func (r *Runner) now() time.Time { return r.Clock.Now().UTC().Truncate(time.Millisecond) }
