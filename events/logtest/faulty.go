package logtest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/reprise-run/reprise/events"
)

// Fault is what goes wrong with one append.
type Fault int

// The faults.
const (
	// None lets the append through.
	None Fault = iota
	// LostAck stores the batch and then fails with ErrUncertain.
	LostAck
	// LostBatch stores nothing and fails with ErrUncertain.
	LostBatch
	// Late stores nothing and fails with ErrUncertain; the batch arrives right
	// before the next append, as if it had been under way.
	Late
	// Held is Late, but the log that has it under way refuses the next two appends as
	// stale, as one with replicas does. It arrives before the third.
	Held
	// Refused stores nothing and fails with another error, as a full disk does.
	Refused
)

// Faulty is a log whose appends go wrong as planned.
type Faulty struct {
	events.Log

	mu      sync.Mutex
	plan    []Fault
	late    func()
	holds   int           // how many appends are refused before late
	gate    chan struct{} // closed, or holds appends up
	waiting int
	cut     bool
}

// NewFaulty wraps a log.
func NewFaulty(log events.Log) *Faulty {
	open := make(chan struct{})
	close(open)
	return &Faulty{Log: log, gate: open}
}

// Plan says what becomes of the next appends, in order.
func (f *Faulty) Plan(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = append(f.plan, faults...)
}

// Hold keeps all appends waiting until release is called, or their context ends.
func (f *Faulty) Hold() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

// Cut makes reading the log's end fail, until Mend.
func (f *Faulty) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
}

// Mend forgets what was planned to go wrong. A batch that is late still comes.
func (f *Faulty) Mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut, f.plan = false, nil
}

func (f *Faulty) reading() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut {
		return errors.New("no route to the log")
	}
	return nil
}

// Last is events.Log's, and fails while the log is cut off.
func (f *Faulty) Last(ctx context.Context) (uint64, error) {
	if err := f.reading(); err != nil {
		return 0, err
	}
	return f.Log.Last(ctx)
}

// Get is events.Log's, and fails while the log is cut off.
func (f *Faulty) Get(ctx context.Context, sequence uint64) (events.Event, error) {
	if err := f.reading(); err != nil {
		return events.Event{}, err
	}
	return f.Log.Get(ctx, sequence)
}

// Waiting is how many appends are under way.
func (f *Faulty) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting
}

func (f *Faulty) next() (fault Fault, gate chan struct{}, late func(), held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting++
	if f.holds > 0 {
		f.holds--
		return None, f.gate, nil, true
	}
	if len(f.plan) > 0 {
		fault, f.plan = f.plan[0], f.plan[1:]
	}
	late, f.late = f.late, nil
	return fault, f.gate, late, false
}

// Append is events.Log's, with the next fault of the plan.
func (f *Faulty) Append(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	fault, gate, late, held := f.next()
	defer func() {
		f.mu.Lock()
		f.waiting--
		f.mu.Unlock()
	}()
	if late != nil {
		late()
	}
	select {
	case <-gate:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if held {
		return 0, fmt.Errorf("another batch is under way: %w", events.ErrStale)
	}
	switch fault {
	case LostAck:
		if _, err := f.Log.Append(ctx, after, batch); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("the answer was lost: %w", events.ErrUncertain)
	case LostBatch:
		return 0, fmt.Errorf("the batch was lost: %w", events.ErrUncertain)
	case Late, Held:
		if last, err := f.Log.Last(ctx); fault == Held && (err != nil || last != after) {
			return f.Log.Append(ctx, after, batch) // what it has under way could have been stored
		}
		f.mu.Lock()
		if fault == Held {
			f.holds = 2
		}
		f.late = func() { _, _ = f.Log.Append(context.WithoutCancel(ctx), after, batch) }
		f.mu.Unlock()
		return 0, fmt.Errorf("the answer is late: %w", events.ErrUncertain)
	case Refused:
		return 0, fmt.Errorf("no space left on device")
	}
	return f.Log.Append(ctx, after, batch)
}
