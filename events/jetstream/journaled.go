package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

// appendOwn appends to a stream of this process.
func (l *Log) appendOwn(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	o := l.own
	o.mu.Lock()
	defer o.mu.Unlock()
	// What goes wrong is put right first, and nothing may be in flight when the journal
	// is told what to forget.
	if o.troubled() || o.journal.Full() {
		if err := l.finish(ctx, o); err != nil {
			return 0, fmt.Errorf("%w: %w", err, events.ErrUncertain)
		}
	}
	if after != o.last {
		return 0, fmt.Errorf("appending %d events after sequence %d of stream %s, which ends at %d: %w", len(batch), after, l.name, o.last, events.ErrStale)
	}
	if o.ended {
		return 0, fmt.Errorf("cannot append to stream %s; nothing was appended: the server is shut down", l.name)
	}
	_, _, flying := o.air.front()
	if err := l.checkRoom(batch, flying); err != nil {
		return 0, err
	}
	r := &redo{after, batch}
	bytes := bytesOf(batch)
	if err := l.fits(r); err != nil {
		return 0, err
	}
	if err := o.write(ctx, r); err != nil {
		return 0, err
	}
	// From here on it will be in the stream, whatever becomes of this process.
	o.last = r.last()
	o.restLater()
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.patient)
	defer cancel()
	if err := o.room(waiting, len(batch), bytes); err == nil && o.torn == nil && bytes <= mostQueuedBytes {
		l.depart(o, r, bytes)
		return o.last, nil
	}
	o.tear(r)
	if err := l.finish(waiting, o); err != nil {
		o.server.background.Go(func() { l.retry(o) })
		return 0, fmt.Errorf("%w: %w", err, events.ErrUncertain)
	}
	return o.last, nil
}

// tear notes that the journal has what the stream may not have, behind what is torn
// already.
func (o *own) tear(r *redo) {
	if o.torn != nil {
		r = &redo{o.torn.after, append(o.torn.batch[:len(o.torn.batch):len(o.torn.batch)], r.batch...)}
	}
	o.torn = r
}

// retry finishes what could not be stored, however long that takes: those who wrote it may
// have been told that it is safe, and nobody may come to append more. One does it for all
// who failed.
func (l *Log) retry(o *own) {
	if !o.retrying.CompareAndSwap(false, true) {
		return
	}
	l = o.through(l)
	for {
		o.mu.Lock()
		ctx, cancel := context.WithTimeout(o.flights, l.patient)
		err := l.finish(ctx, o)
		over := err == nil || errors.Is(err, events.ErrDamaged)
		if over {
			o.retrying.Store(false) // while nothing more can depart, and fail
		}
		o.mu.Unlock()
		cancel()
		if over {
			return
		}
		select {
		case <-time.After(slow):
		case <-o.server.failed:
			return
		case <-o.flights.Done():
			return
		}
	}
}

// finish has the stream store what is in the journal and was not seen to be stored.
func (l *Log) finish(ctx context.Context, o *own) error {
	if err := o.land(ctx); err != nil {
		return err
	}
	for wait := time.Millisecond; o.torn != nil; wait = min(2*wait, 100*time.Millisecond) {
		err := l.resume(ctx, o)
		if err == nil {
			continue
		}
		if errors.Is(err, events.ErrDamaged) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("an append of %d events to stream %s was cut short and cannot be finished yet: %w", len(o.torn.batch), l.name, err)
		case <-o.server.failed:
			return o.server.Err()
		case <-o.server.closed:
			return fmt.Errorf("an append of %d events to stream %s was cut short, and the server is shut down; the next start finishes it: %w", len(o.torn.batch), l.name, err)
		}
	}
	return nil
}

// resume publishes what the stream lacks of the append that is torn. Messages of earlier
// tries may come in between; then some are refused.
func (l *Log) resume(ctx context.Context, o *own) error {
	r := o.torn
	state, err := l.state(ctx)
	if err != nil {
		return err
	}
	if state.LastSeq < r.after || state.LastSeq > r.last() {
		return fmt.Errorf("stream %s ends at %d, where events were to be appended after %d: somebody else has appended to it: %w", l.name, state.LastSeq, r.after, events.ErrDamaged)
	}
	if state.LastSeq > r.after {
		e, err := l.read(ctx, state.LastSeq)
		if err != nil {
			return err
		}
		if e.Chain != r.batch[state.LastSeq-r.after-1].Chain {
			return fmt.Errorf("event %d of stream %s is not the one that was to be appended: %w", e.Sequence, l.name, events.ErrDamaged)
		}
	}
	if state.LastSeq < r.last() {
		if err := l.publish(ctx, o, state.LastSeq, l.singles(r, state.LastSeq)); err != nil {
			l.doubt(err)
			return err
		}
	} else if err := o.follow(); err != nil {
		return err
	}
	o.torn, o.last = nil, r.last()
	o.restLater()
	return nil
}

// singles are the messages of an append from a sequence on. Each carries the expected
// last sequence: if one is not stored, those after it are not either.
func (l *Log) singles(r *redo, from uint64) []*nats.Msg {
	msgs := make([]*nats.Msg, 0, r.last()-from)
	for i := from - r.after; i < uint64(len(r.batch)); i++ {
		e := r.batch[i]
		e.Sequence = r.after + 1 + i
		h, body := Encode(&e)
		h[hExpect] = []string{strconv.FormatUint(e.Sequence-1, 10)}
		msgs = append(msgs, &nats.Msg{Subject: subject(l.root, &e), Header: h, Data: body})
	}
	return msgs
}

// mostSubject is what a subject may have: NATS takes lines of 4,096 bytes, on which there
// is more.
const mostSubject = 3500

// fits fails if JetStream would refuse a message for its size. That must be known before
// the journal has it.
func (l *Log) fits(r *redo) error {
	most := l.nc.MaxPayload()
	for i := range r.batch {
		if small(&r.batch[i], len(l.root), most) {
			continue
		}
		m := l.singles(&redo{r.after + uint64(i), r.batch[i : i+1]}, r.after+uint64(i))[0]
		head := len("NATS/1.0\r\n\r\n")
		for key, values := range m.Header {
			head += len(key) + len(values[0]) + len(": \r\n")
		}
		if len(m.Subject) > mostSubject {
			return fmt.Errorf("cannot append to stream %s an event whose subject has %d bytes; nothing was appended: %w", l.name, len(m.Subject), nats.ErrBadSubject)
		}
		if head > math.MaxUint16 || int64(head+len(m.Data)) > most {
			return fmt.Errorf("cannot append to stream %s an event of %d bytes, %d of them in headers; nothing was appended: %w", l.name, head+len(m.Data), head, nats.ErrMaxPayload)
		}
	}
	return nil
}

// small says that the message of an event is not too large, though each byte of a header
// may take three there. It is so of nearly all, and tells without making the message.
func small(e *events.Event, root int, most int64) bool {
	names := root + len(e.Type) + len(e.Object.Group) + len(e.Object.Resource) + len(e.Object.Namespace) + len(e.Object.Name) +
		len(e.UID) + len(e.User) + len(e.Audit) + len(e.Actor.Kind) + len(e.Actor.Name) + len(e.Actor.Version)
	told := len(e.Asked) + len(e.Note)
	return names <= mostSubject/4 && told <= math.MaxUint16/4 && int64(math.MaxUint16+len(e.Data)+told) <= most
}

// publish sends messages, and waits until the last is stored.
func (l *Log) publish(ctx context.Context, o *own, after uint64, msgs []*nats.Msg) error {
	queued := 0
	for i, m := range msgs {
		if queued += len(m.Data); i < len(msgs)-1 && i%mostQueued != mostQueued-1 && queued < mostQueuedBytes {
			if err := l.nc.PublishMsg(m); err != nil {
				return fmt.Errorf("cannot send %d events to stream %s: %w", len(msgs), l.name, err)
			}
			continue
		}
		queued = 0
		if _, err := l.send(ctx, after+uint64(i), []*nats.Msg{m}); err != nil {
			return err
		}
		if err := o.follow(); err != nil {
			return err
		}
	}
	return nil
}

// follow opens the blocks that have been begun, before JetStream may be through with them.
func (o *own) follow() error {
	if err := o.blocks.follow(); err != nil {
		return fmt.Errorf("%w: %w", o.server.fail(o.name, "cannot open a file of the log: "+err.Error()), events.ErrUncertain)
	}
	return nil
}
