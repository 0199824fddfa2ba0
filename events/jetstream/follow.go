package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
)

// ahead is how many messages a reader lets JetStream send before they are asked
// for.
const ahead = 1024

// reader reads by an ordered consumer, which starts over by itself when its
// connection or its server fails, and checks that no sequence is left out.
type reader struct {
	log     *Log
	in      chan delivery
	consume jetstream.ConsumeContext
	lost    chan nats.Status
	closed  chan struct{}
	close   sync.Once

	next    uint64         // the sequence that must come now
	pending []events.Event // read, and not yet at the end of their decision
	whole   int            // how many of pending are
	failed  error          // what ended the reading
}

// delivery is a message as it came: decoded on the consumer's goroutine, so that
// the reader's has only to fold.
type delivery struct {
	event    events.Event
	sequence uint64
	err      error
}

// Follow is events.Log's.
func (l *Log) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	state, err := l.state(ctx)
	if err == nil && from > state.LastSeq+1 && l.own != nil {
		if err = l.reach(ctx, l.own, from-1); err == nil {
			state, err = l.state(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	if from == 0 || from > state.LastSeq+1 {
		return nil, fmt.Errorf("cannot follow stream %s from sequence %d: it ends at %d", l.name, from, state.LastSeq)
	}
	if state.Msgs > 0 {
		from = max(from, state.FirstSeq)
	} else {
		from = state.LastSeq + 1
	}
	consumer, err := l.js.OrderedConsumer(ctx, l.name, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot follow stream %s from sequence %d: %w", l.name, from, err)
	}
	r := &reader{
		log: l, next: from, in: make(chan delivery, ahead), closed: make(chan struct{}),
		lost: l.nc.StatusChanged(nats.CLOSED),
	}
	r.consume, err = consumer.Consume(r.receive, jetstream.PullMaxMessages(ahead))
	if err != nil {
		l.nc.RemoveStatusListener(r.lost)
		return nil, fmt.Errorf("cannot follow stream %s from sequence %d: %w", l.name, from, err)
	}
	return r, nil
}

// receive runs on the consumer's goroutine; while it waits, the consumer asks for
// no more.
func (r *reader) receive(m jetstream.Msg) {
	var d delivery
	if meta, err := m.Metadata(); err != nil {
		d.err = fmt.Errorf("a message of stream %s came without its place: %w", r.log.name, err)
	} else {
		d.sequence = meta.Sequence.Stream
		// The body lies in a buffer that it shares with the headers.
		d.event, d.err = Decode(m.Headers(), bytes.Clone(m.Data()), d.sequence)
	}
	select {
	case r.in <- d:
	case <-r.closed:
	}
}

// Next is events.Reader's.
func (r *reader) Next(ctx context.Context) ([]events.Event, error) {
	for r.whole == 0 {
		if r.failed != nil {
			return nil, r.failed
		}
		select {
		case d := <-r.in:
			if err := r.take(ctx, d); err != nil {
				return nil, err
			}
			continue
		default:
		}
		select {
		case d := <-r.in:
			if err := r.take(ctx, d); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.closed:
			return nil, fmt.Errorf("the reader of stream %s is closed", r.log.name)
		case <-r.lost:
			r.failed = fmt.Errorf("the connection to stream %s is closed", r.log.name)
		}
	}
	for len(r.pending) < ahead && r.failed == nil {
		select {
		case d := <-r.in:
			if err := r.take(ctx, d); err != nil {
				return nil, err
			}
			continue
		default:
		}
		break
	}
	out := r.pending[:r.whole:r.whole]
	r.pending = append([]events.Event(nil), r.pending[r.whole:]...)
	r.whole = 0
	return out, nil
}

// take adds a delivery to what is pending. It returns an error only if it could
// not: then the same sequence is fetched by the next call.
func (r *reader) take(ctx context.Context, d delivery) error {
	if d.sequence == 0 && d.err != nil {
		r.failed = d.err
		return nil
	}
	for r.next < d.sequence {
		e, err := r.log.Get(ctx, r.next)
		if errors.Is(err, events.ErrNotFound) && r.log.forgets {
			r.next++
			continue
		}
		if errors.Is(err, events.ErrNotFound) {
			r.failed = fmt.Errorf("event %d is missing from stream %s, which goes on to %d: %w", r.next, r.log.name, d.sequence, events.ErrDamaged)
			return nil
		}
		if err != nil {
			return err
		}
		r.add(e)
	}
	switch {
	case d.sequence < r.next:
	case d.err != nil:
		r.failed = d.err
	default:
		r.add(d.event)
	}
	return nil
}

func (r *reader) add(e events.Event) {
	r.pending = append(r.pending, e)
	r.next++
	if !e.More {
		r.whole = len(r.pending)
	}
}

// Close is events.Reader's.
func (r *reader) Close() error {
	r.close.Do(func() {
		close(r.closed)
		r.consume.Stop()
		r.log.nc.RemoveStatusListener(r.lost)
	})
	return nil
}
