package node

import (
	"context"
	"sync/atomic"
)

// Crew runs what agents do for their pods, each thing beside all else, on goroutines that
// are used again. To look at a pod takes a deep stack for a moment, and a new goroutine has to
// grow one step by step. The agents of a process share one.
type Crew struct {
	ctx  context.Context
	next chan func()
	idle atomic.Int32
}

// spare is how many goroutines of a crew wait for something to do at most.
const spare = 32

// NewCrew returns a crew whose idle goroutines leave when ctx ends.
func NewCrew(ctx context.Context) *Crew { return &Crew{ctx: ctx, next: make(chan func())} }

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
