package blocks

import (
	"bytes"
	"context"
	"fmt"

	"github.com/reprise-run/reprise/events"
)

// Log reads a stream's files as the events of a log that nobody appends to.
type Log struct {
	stream *Stream
	last   uint64
}

// Log returns the log up to an event, as an audit has found it to be good.
func (s *Stream) Log(last uint64) *Log { return &Log{s, last} }

// Last is events.Log's.
func (l *Log) Last(context.Context) (uint64, error) { return l.last, nil }

// Follow is events.Log's, from the first event on.
func (l *Log) Follow(_ context.Context, from uint64) (events.Reader, error) {
	if from != 1 {
		return nil, fmt.Errorf("the files of a log are read from its first event, and not from %d", from)
	}
	return &reader{log: l, next: 1}, nil
}

type reader struct {
	log     *Log
	block   int
	pending []events.Event
	next    uint64 // the sequence after those of pending
	ended   bool
}

// Next is events.Reader's. Behind the last event it fails.
func (r *reader) Next(ctx context.Context) ([]events.Event, error) {
	for !r.ended {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := r.more(); err != nil {
			return nil, err
		}
		whole := len(r.pending)
		for whole > 0 && r.pending[whole-1].More {
			whole--
		}
		if out := r.pending[:whole:whole]; whole > 0 {
			r.pending = append([]events.Event(nil), r.pending[whole:]...)
			return out, nil
		}
	}
	return nil, fmt.Errorf("the log's files end before event %d", r.log.last+1)
}

// more reads the next block, or the journal where the blocks break off.
func (r *reader) more() error {
	if r.block == r.log.stream.Len() {
		r.take(r.log.stream.rest(r.next))
		r.ended = true
		return nil
	}
	b, err := r.log.stream.Read(r.block)
	if err != nil {
		return err
	}
	r.block++
	if whole := r.take(b.Events); b.Fault != nil || !whole {
		r.take(r.log.stream.rest(r.next))
		r.ended = true
	}
	return nil
}

// take adds events to what is pending, and says whether they follow each other.
func (r *reader) take(all []events.Event) bool {
	for _, e := range all {
		if r.ended = e.Sequence > r.log.last; r.ended {
			return true
		}
		if e.Sequence != r.next {
			return false
		}
		r.next++
		// A state keeps what an object was created as, and must not keep the whole
		// block with it.
		e.Data = bytes.Clone(e.Data)
		r.pending = append(r.pending, e)
	}
	return true
}

// Close is events.Reader's.
func (r *reader) Close() error { return nil }
