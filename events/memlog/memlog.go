// Package memlog is the events.Log in memory. Tests and the simulation use it in
// place of events/jetstream and may rely on the same contract, which
// events/logtest holds both to. It keeps nothing across processes and is not for
// production.
package memlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/reprise-run/reprise/events"
)

// Log is an events.Log in memory. The zero value is not ready; see New.
type Log struct {
	mu     sync.Mutex
	first  uint64         // sequence of kept[0], or of the next event
	kept   []events.Event // without gaps
	notify chan struct{}  // closed and replaced when events come
}

var _ events.Log = (*Log)(nil)

// New returns an empty log.
func New() *Log {
	return &Log{first: 1, notify: make(chan struct{})}
}

func (l *Log) last() uint64 { return l.first + uint64(len(l.kept)) - 1 }

// Append is events.Log's.
func (l *Log) Append(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(batch) > events.MaxBatch {
		return 0, fmt.Errorf("a batch has at most %d events, and this one %d", events.MaxBatch, len(batch))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if after != l.last() {
		return 0, fmt.Errorf("expected the log to end at %d, and it ends at %d: %w", after, l.last(), events.ErrStale)
	}
	for _, e := range batch {
		e.Sequence = l.last() + 1
		l.kept = append(l.kept, clone(e))
	}
	if len(batch) > 0 {
		close(l.notify)
		l.notify = make(chan struct{})
	}
	return l.last(), nil
}

// Last is events.Log's.
func (l *Log) Last(ctx context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last(), ctx.Err()
}

// First is events.Log's.
func (l *Log) First(ctx context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, ctx.Err()
}

// Get is events.Log's.
func (l *Log) Get(ctx context.Context, sequence uint64) (events.Event, error) {
	if err := ctx.Err(); err != nil {
		return events.Event{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if sequence < l.first || sequence > l.last() {
		return events.Event{}, fmt.Errorf("sequence %d of %d to %d: %w", sequence, l.first, l.last(), events.ErrNotFound)
	}
	return clone(l.kept[sequence-l.first]), nil
}

// Follow is events.Log's.
func (l *Log) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < 1 || from > l.last()+1 {
		return nil, fmt.Errorf("cannot follow from sequence %d: the log goes from %d to %d", from, l.first, l.last())
	}
	return &reader{log: l, next: max(from, l.first), closed: make(chan struct{})}, nil
}

// Forget drops the events before a sequence, as a log with a limit of age does.
func (l *Log) Forget(before uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before = min(before, l.last()+1); before > l.first {
		l.kept = append([]events.Event(nil), l.kept[before-l.first:]...)
		l.first = before
	}
}

type reader struct {
	log    *Log
	next   uint64
	once   sync.Once
	closed chan struct{}
}

var errClosed = errors.New("the reader was closed")

// Next is events.Reader's.
func (r *reader) Next(ctx context.Context) ([]events.Event, error) {
	for {
		select {
		case <-r.closed:
			return nil, errClosed
		default:
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got, more := r.log.read(r.next)
		if len(got) > 0 {
			r.next = got[len(got)-1].Sequence + 1
			return got, nil
		}
		select {
		case <-more:
		case <-r.closed:
		case <-ctx.Done():
		}
	}
}

func (r *reader) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

// read returns whole decisions from a sequence on, about MaxBatch events of
// them, or none and what is closed when there are more events.
func (l *Log) read(from uint64) ([]events.Event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := int(max(from, l.first) - l.first)
	end := start
	for i := start; i < len(l.kept) && end-start < events.MaxBatch; i++ {
		if !l.kept[i].More {
			end = i + 1
		}
	}
	got := make([]events.Event, 0, end-start)
	for _, e := range l.kept[start:end] {
		got = append(got, clone(e))
	}
	return got, l.notify
}

func clone(e events.Event) events.Event {
	e.Data, e.Note, e.Asked = bytes.Clone(e.Data), bytes.Clone(e.Note), bytes.Clone(e.Asked)
	return e
}
