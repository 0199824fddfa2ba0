package runner

import (
	"context"
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
	// Clock tells the time; the real one by default.
	Clock clock.PassiveClock
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

// loop is what is to be decided by one decider, and who does it. It is used by one
// goroutine at a time.
type loop struct {
	*Runner
	queue   *queue
	threads Threads
	running int // items are with workers
	// give takes back what a worker has done, and returns what it is to do next.
	give func([]result) []job
}

// job is an item that is with a worker.
type job struct {
	it   *entry
	item Item
}

// result is what a worker has done about an item.
type result struct {
	it *entry
	outcome
}

// all is what concerns every object there is, as if it had just been created.
func (r *Runner) all(v View) []mark {
	marks := r.created(v, v.Reader, false)
	if v.Volatile != nil {
		marks = append(marks, r.created(v, v.Volatile, true)...)
	}
	return marks
}

// created is what all objects of a view concern, as creations.
func (r *Runner) created(v View, objects projections.Reader, volatile bool) (marks []mark) {
	for resource := range objects.Resources() {
		for e := range objects.List(resource.Group, resource.Resource, "") {
			ev := &events.Event{Sequence: e.Sequence, Object: e.Ref, UID: e.UID}
			marks = r.marks(marks, v, []projections.Change{{Event: ev, After: e}}, volatile)
		}
	}
	return marks
}

// view is the newest view there is.
func (r *Runner) view() View {
	// The volatile view first: what it shows of a node may be newer than the
	// history's, but a decision is only as old as its basis.
	v := View{}
	if r.Volatile != nil {
		v.Volatile = r.Volatile.View()
	}
	v.Reader = r.Projection.View()
	return v
}

// mark says that a change, of sequence zero if it is not in the history, concerns an item.
type mark struct {
	ref     events.Ref
	because uint64
}

// marks appends what changes concern, which v has folded.
func (r *Runner) marks(all []mark, v View, changes []projections.Change, volatile bool) []mark {
	for _, c := range changes {
		because := c.Event.Sequence
		if volatile {
			because = 0
		}
		for _, ref := range r.concerns(v, c) {
			all = append(all, mark{ref, because})
		}
	}
	return all
}

// hear takes note of what changes concern, and of how far they go.
func (l *loop) hear(sequence uint64, marks []mark) {
	l.queue.fold(sequence)
	for _, m := range marks {
		l.queue.mark(m.ref, m.because)
	}
}

// concerns asks the decider. A bug in it costs the change its hearing, not the
// whole program.
func (r *Runner) concerns(v View, c projections.Change) []events.Ref {
	defer func() {
		if p := recover(); p != nil {
			r.Logger.Error("cannot tell what a change concerns", "object", c.Event.Object.String(), "sequence", c.Event.Sequence,
				"error", fmt.Errorf("a bug in the decider: %v\n%s", p, debug.Stack()))
		}
	}()
	return r.decider.Concerns(v, c)
}

// dispatch hands items to workers, each with the newest view. The items of a Patient
// decider go to one worker together.
func (l *loop) dispatch(ctx context.Context) {
	for {
		jobs := l.take()
		if len(jobs) == 0 {
			return
		}
		l.threads.Go(func() {
			for len(jobs) > 0 {
				jobs = l.give(l.work(ctx, jobs))
			}
		})
	}
}

// take takes what one worker is to do out of the queue.
func (l *loop) take() (jobs []job) {
	most := 1
	if l.gather > 0 {
		most = maxDecisions
	}
	for len(jobs) < most && l.running < l.Workers {
		it := l.queue.next(l.now())
		if it == nil {
			break
		}
		l.running++
		jobs = append(jobs, job{it, it.Item})
	}
	return jobs
}

// finish takes items back from their worker.
func (l *loop) finish(all []result) {
	l.running -= len(all)
	for _, d := range all {
		l.queue.finish(d.it, d.outcome, l.now())
	}
}

// now is the time as deciders get it: what an event can record.
func (r *Runner) now() time.Time { return r.Clock.Now().UTC().Truncate(time.Millisecond) }
