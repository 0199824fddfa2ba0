package runner

import (
	"context"
	"time"

	"github.com/reprise-run/reprise/projections"
)

// Stepper is the loop of Run in the hands of who has a clock and threads of his
// own, as the simulation of a whole cluster has: it does the same and waits for
// nothing. The Runner's projections need not tell their changes, for Fold is told
// them. It is used by one goroutine, and so are the threads it is given.
type Stepper struct{ loop *loop }

// Threads are what a loop does its work on.
type Threads interface {
	// Go has f run beside the caller.
	Go(f func())
	// All calls f for 0 to n-1 side by side, at most limit at a time, and returns
	// when all have ended.
	All(n, limit int, f func(i int))
}

// Stepper returns a loop that has everything there is still to decide.
func (r *Runner) Stepper(t Threads) *Stepper {
	l := &loop{Runner: r, queue: newQueue(r.gather), threads: t}
	l.give = func(all []result) []job { l.finish(all); return nil }
	v := l.view()
	l.hear(v.Sequence(), l.all(v))
	return &Stepper{l}
}

// Fold tells of changes that a projection has folded: that of the history, or
// that of the volatile objects.
func (s *Stepper) Fold(changes []projections.Change, volatile bool) {
	v := s.loop.view()
	s.loop.hear(v.Sequence(), s.loop.marks(nil, v, changes, volatile))
}

// Step puts to work what can be decided now. It is called again after Fold, when
// a piece of work has ended, and at the time it returns, unless that is zero.
func (s *Stepper) Step(ctx context.Context) (wake time.Time) {
	s.loop.queue.advance(s.loop.now())
	s.loop.dispatch(ctx)
	return s.loop.queue.until(s.loop.now())
}
