// Package crew has goroutines do one thing after the other. To look at a pod, or to judge a
// command, takes a deep stack for a moment, and a new goroutine has to grow one step by step.
package crew

import (
	"context"
	"sync/atomic"
)

// Crew runs what it is given, each thing beside all else, on goroutines that are used again.
type Crew struct {
	ctx  context.Context
	next chan func()
	idle atomic.Int32
}

// spare is how many goroutines of a crew wait for something to do at most.
const spare = 32

// New returns a crew whose idle goroutines leave when ctx ends.
func New(ctx context.Context) *Crew { return &Crew{ctx: ctx, next: make(chan func())} }

// Go has f run beside the caller.
func (c *Crew) Go(f func()) {
	select {
	case c.next <- f: // somebody is idle
	default:
		go c.work(f)
	}
}

func (c *Crew) work(f func()) {
	for f != nil {
		f()
		f = c.await()
	}
}

// await returns what an idle goroutine is to do next, nil if it is to leave.
func (c *Crew) await() func() {
	defer c.idle.Add(-1)
	if c.idle.Add(1) > spare {
		return nil
	}
	select {
	case f := <-c.next:
		return f
	case <-c.ctx.Done():
		return nil
	}
}
