package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reprise-run/reprise/agents/crew"
	"github.com/reprise-run/reprise/projections/live"
)

// Run drives the decider until the context ends, which is no error. It fails if
// the projection stops.
func (r *Runner) Run(ctx context.Context) error { return Together(ctx, r) }

// Together is Run for deciders that look at the same projections. Their changes are read
// once, and nobody is woken by one that does not concern him.
func Together(ctx context.Context, runners ...*Runner) error {
	for {
		err := follow(ctx, runners)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, live.ErrTooOld) {
			return err
		}
		for _, r := range runners {
			r.Logger.Info("fell too far behind the log; starting again from a view")
		}
	}
}

// follow drives the deciders from a view onward. What comes is read while they look at
// what is there: of many objects that takes longer than what came is kept.
func follow(ctx context.Context, runners []*Runner) error {
	readers, ctx := errgroup.WithContext(ctx)
	drives := make([]*drive, len(runners))
	workers := crew.New(ctx)
	for i, r := range runners {
		drives[i] = newDrive(ctx, r, workers)
	}
	defer func() {
		for _, d := range drives {
			d.halt()
		}
	}()
	first := runners[0]
	v := first.view()
	for _, d := range drives {
		readers.Go(func() error {
			d.hear(ctx, v.Sequence(), d.loop.all(v))
			return nil
		})
	}
	readers.Go(func() error { return read(ctx, first.Projection, v.Sequence(), drives, false) })
	if first.Volatile != nil {
		readers.Go(func() error { return read(ctx, first.Volatile, v.Volatile.Sequence(), drives, true) })
	}
	return readers.Wait()
}

// read tells all deciders of the changes of a projection, until the context ends.
func read(ctx context.Context, p live.Projection, after uint64, drives []*drive, volatile bool) error {
	changes, err := p.Changes(ctx, after)
	if err != nil {
		return fmt.Errorf("cannot follow the changes after sequence %d: %w", after, err)
	}
	var marks []mark
	for {
		batch, err := changes.Next(ctx)
		if err != nil {
			return err
		}
		v := drives[0].loop.view()
		for _, d := range drives {
			begun := d.loop.Clock.Now()
			marks = d.loop.marks(marks[:0], v, batch, volatile)
			d.hear(ctx, v.Sequence(), marks)
			if took := d.loop.Clock.Since(begun); took > tardy {
				d.loop.Logger.Warn("took long to tell what changes concern, and others waited", "changes", len(batch), "took", took)
			}
		}
	}
}

// tardy is what a decider may take to hear of a batch of changes, which takes microseconds
// for each: all others hear of it later by that, and all of them start again from a view
// when more has come meanwhile than a projection keeps.
const tardy = time.Second

// drive is a loop in the hands of those who have something to tell it: who reads
// changes, its workers, and a timer. Whoever does so hands out what can be decided then.
type drive struct {
	workers goroutines

	mu    sync.Mutex
	loop  loop
	timer *time.Timer
	rings time.Time // is when the timer rings, zero if it does not
}

func newDrive(ctx context.Context, r *Runner, workers *crew.Crew) *drive {
	d := &drive{workers: goroutines{crew: workers}}
	d.loop = loop{Runner: r, queue: newQueue(r.gather), threads: &d.workers, give: func(all []result) []job { return d.finish(ctx, all) }}
	d.timer = time.AfterFunc(never, func() { d.ring(ctx) })
	return d
}

const never = 1 << 62

func (d *drive) hear(ctx context.Context, sequence uint64, marks []mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loop.hear(sequence, marks)
	d.dispatch(ctx)
}

func (d *drive) ring(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rings = time.Time{}
	d.dispatch(ctx)
}

// finish takes items back from a worker, which does the next itself.
func (d *drive) finish(ctx context.Context, all []result) (next []job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loop.finish(all)
	if ctx.Err() == nil {
		next = d.loop.take()
	}
	d.dispatch(ctx)
	return next
}

// dispatch hands out what can be decided now, and has the timer ring when more can be. One
// that rings too early does no harm.
func (d *drive) dispatch(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	d.loop.queue.advance(d.loop.now())
	d.loop.dispatch(ctx)
	now := d.loop.now()
	at := d.loop.queue.until(now)
	if at.IsZero() || !d.rings.IsZero() && !at.Before(d.rings) {
		return
	}
	d.rings = at
	d.timer.Reset(max(at.Sub(now), 0))
}

// halt waits for the workers, after the context has ended: none begins from then on.
func (d *drive) halt() {
	d.mu.Lock()
	d.timer.Stop()
	d.mu.Unlock()
	d.workers.Wait()
}

// goroutines are the Threads of Run: those of a crew that all deciders share.
type goroutines struct {
	crew *crew.Crew
	sync.WaitGroup
}

// Go implements Threads.
func (g *goroutines) Go(f func()) { g.goIn(&g.WaitGroup, f) }

func (g *goroutines) goIn(group *sync.WaitGroup, f func()) {
	group.Add(1)
	g.crew.Go(func() {
		defer group.Done()
		f()
	})
}

// All implements Threads.
func (g *goroutines) All(n, limit int, f func(i int)) {
	var all sync.WaitGroup
	var taken atomic.Int64
	some := func() {
		for i := taken.Add(1) - 1; i < int64(n); i = taken.Add(1) - 1 {
			f(int(i))
		}
	}
	for range min(n, limit) - 1 {
		g.goIn(&all, some)
	}
	some()
	all.Wait()
}
