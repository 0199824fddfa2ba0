// Package storagetest gives tests of the API a log with a projection of it, all
// in memory. Nothing but tests may import it.
package storagetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// Log is a log and its projection in one, which folds what is proposed at once.
type Log struct {
	mu      sync.Mutex
	state   *projections.State
	changes []projections.Change
	moved   chan struct{}
	fail    error
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{state: projections.NewState(), moved: make(chan struct{})} }

// Source is the log as storage wants it.
func (l *Log) Source() storage.Source { return storage.Source{Projection: l, Proposer: l} }

// Fail makes each proposal fail from now on, until it is called with nil.
func (l *Log) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// Events returns all there are, in order.
func (l *Log) Events() []events.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]events.Event, len(l.changes))
	for i, c := range l.changes {
		all[i] = *c.Event
	}
	return all
}

// Propose implements events.Proposer.
func (l *Log) Propose(_ context.Context, p events.Proposal) (events.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return events.Receipt{}, l.fail
	}
	view := l.state.View()
	for _, x := range p.Expect {
		var actual uint64
		if e := view.Get(x.Object); e != nil {
			actual = e.Sequence
		}
		if actual != x.Sequence {
			return events.Receipt{}, &events.ConflictError{Object: x.Object, Expected: x.Sequence, Actual: actual}
		}
	}
	first := l.state.Sequence() + 1
	batch := make([]events.Event, len(p.Changes))
	for i, c := range p.Changes {
		batch[i] = events.Event{
			Sequence: first + uint64(i), Type: c.Type, Object: c.Object, UID: c.UID, Actor: p.Actor,
			User: p.User, Audit: p.Audit, Cause: p.Because, Time: time.Now().UTC(), Data: c.Data,
			More: i < len(p.Changes)-1,
		}
	}
	changes, err := l.state.Fold(batch)
	if err != nil {
		return events.Receipt{}, err
	}
	l.changes = append(l.changes, changes...)
	close(l.moved)
	l.moved = make(chan struct{})
	return events.Receipt{First: first, Last: l.state.Sequence()}, nil
}

// View implements live.Projection.
func (l *Log) View() projections.Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.View()
}

// Wait implements live.Projection.
func (l *Log) Wait(ctx context.Context, sequence uint64) error {
	for {
		l.mu.Lock()
		at, moved := l.state.Sequence(), l.moved
		l.mu.Unlock()
		if at >= sequence {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Changes implements live.Projection.
func (l *Log) Changes(_ context.Context, after uint64) (live.Changes, error) {
	return &reader{log: l, next: int(after)}, nil
}

type reader struct {
	log  *Log
	next int
}

// Next implements live.Changes.
func (r *reader) Next(ctx context.Context) ([]projections.Change, error) {
	if err := r.log.Wait(ctx, uint64(r.next)+1); err != nil {
		return nil, err
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if r.next > len(r.log.changes) {
		return nil, errors.New("no such change")
	}
	batch := r.log.changes[r.next:]
	r.next = len(r.log.changes)
	return batch, nil
}
