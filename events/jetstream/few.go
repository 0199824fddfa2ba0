package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
)

// few is how many events are appended as single messages at most: an atomic batch
// costs as much as about so many, whatever is in it, because JetStream makes a
// store of files for it.
const few = 12

// redo is an append of a few events: what is stored in part must be stored whole.
type redo struct {
	after uint64
	batch []events.Event
	// afloat says that the first event was sent and not answered, and may be stored
	// yet.
	afloat bool
}

func (r *redo) last() uint64 { return r.after + uint64(len(r.batch)) }

// appendFew appends what is few as single messages, each of which carries the
// expected last sequence. So that it is stored whole or not at all, what is to be
// appended is on disk before: what is cut short is finished, by finish or when the
// log is opened again. It says false if it must go another way.
func (l *Log) appendFew(ctx context.Context, after uint64, batch []events.Event) (last uint64, did bool, err error) {
	if len(batch) < 2 || len(batch) > few || l.intent == nil {
		return 0, false, nil
	}
	r := &redo{after: after, batch: batch}
	if did, err := l.intent.write(r); err != nil || !did {
		return 0, err != nil, err
	}
	if err := l.publish(ctx, r, after); err != nil {
		if err := l.outcome(ctx, r, err); err != nil {
			return 0, true, err
		}
	}
	return r.last(), true, nil
}

// publish sends the events after a sequence, and waits until the last is stored.
// The others are sent when the first is stored: from then on the end of the stream
// is in the middle of a decision, where nobody else appends, for nobody can have
// folded up to there.
func (l *Log) publish(ctx context.Context, r *redo, from uint64) error {
	first, last := from-r.after, uint64(len(r.batch))-1
	for i := first; i <= last; i++ {
		e := r.batch[i]
		e.Sequence = r.after + 1 + i
		h, body := Encode(&e)
		h[hExpect] = []string{strconv.FormatUint(e.Sequence-1, 10)}
		m := &nats.Msg{Subject: subject(l.root, &e), Header: h, Data: body}
		if i > first && i < last {
			// If it is not stored, those after it are not either.
			if err := l.nc.PublishMsg(m); err != nil {
				return fmt.Errorf("cannot send %d events to stream %s: %w", len(r.batch), l.name, err)
			}
			continue
		}
		if _, err := l.send(ctx, e.Sequence-1, []*nats.Msg{m}); err != nil {
			return err
		}
	}
	return nil
}

// outcome finds out how far an append that failed got, and finishes what is stored
// in part. While that does not succeed, nothing else is appended.
func (l *Log) outcome(ctx context.Context, r *redo, cause error) error {
	l.doubt(cause) // so that progress asks whether the disk is sound
	l.torn = r
	r.afloat = errors.Is(cause, events.ErrUncertain)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.patient)
	defer cancel()
	if n, err := l.progress(ctx, r); err == nil && n == len(r.batch) && errors.Is(cause, events.ErrStale) {
		l.torn = nil // it is from an earlier try
		return cause
	}
	stored, err := l.finish(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w (%w): %w", cause, err, events.ErrUncertain)
	case stored:
		return nil
	}
	return cause
}

// finish stores the rest of an append that is stored in part, and says whether it
// is stored now. Otherwise nothing of it is.
func (l *Log) finish(ctx context.Context) (stored bool, err error) {
	if l.torn == nil {
		return false, nil
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		n, err := l.progress(ctx, l.torn)
		if err == nil && n == 0 && l.torn.afloat {
			if err = l.barrier(ctx, l.torn); err == nil {
				l.torn.afloat = false
				n, err = l.progress(ctx, l.torn)
			}
		}
		if err == nil && n > 0 && n < len(l.torn.batch) {
			if err = l.publish(ctx, l.torn, l.torn.after+uint64(n)); err == nil {
				n = len(l.torn.batch)
			}
			l.doubt(err)
		}
		if err == nil {
			l.torn = nil
			return n > 0, nil
		}
		if errors.Is(err, events.ErrDamaged) {
			return false, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false, fmt.Errorf("an append of %d events to stream %s was cut short and cannot be finished: %w", len(l.torn.batch), l.name, err)
		}
	}
}

// barrier returns when JetStream is through with all that was sent before: it sends
// what can only be refused, by the same connection and so into the same queue, and
// waits for the refusal.
func (l *Log) barrier(ctx context.Context, r *redo) error {
	ctx, cancel := context.WithTimeout(ctx, l.patient)
	defer cancel()
	reply, err := l.nc.RequestMsgWithContext(ctx, &nats.Msg{
		Subject: subject(l.root, &r.batch[0]),
		Header:  nats.Header{hExpect: {strconv.Itoa(math.MaxInt64)}},
	})
	if err != nil {
		return fmt.Errorf("stream %s does not say whether it is through with an append: %w", l.name, err)
	}
	// Other refusals may come from before the queue.
	if _, err := l.acknowledged(reply.Data, math.MaxInt64, 1); !errors.Is(err, events.ErrStale) {
		return fmt.Errorf("stream %s does not say whether it is through with an append, but %s", l.name, reply.Data)
	}
	return nil
}

// progress returns how many events of an append the stream has. If it has none it
// ends before them, or somebody else has appended there.
func (l *Log) progress(ctx context.Context, r *redo) (int, error) {
	state, err := l.state(ctx)
	if err != nil || state.LastSeq <= r.after {
		return 0, err
	}
	first, err := l.Get(ctx, r.after+1)
	if errors.Is(err, events.ErrNotFound) && l.forgets {
		return len(r.batch), nil // it has aged away
	}
	if err != nil {
		return 0, err
	}
	mine := r.batch[0]
	mine.Sequence = r.after + 1
	if first.Chain != mine.Chain || !bytes.Equal(first.AppendSealed(nil), mine.AppendSealed(nil)) {
		return 0, nil
	}
	n := int(min(state.LastSeq, r.last()) - r.after)
	if n == 1 {
		return n, nil
	}
	last, err := l.Get(ctx, r.after+uint64(n))
	if err == nil && last.Chain != r.batch[n-1].Chain {
		err = fmt.Errorf("event %d of stream %s is not the one that belongs to event %d: somebody has published to it without the expected sequence: %w", last.Sequence, l.name, first.Sequence, events.ErrDamaged)
	}
	return n, err
}

// recover finishes what was cut short when the log was last open. The file holds an
// append that is long complete at nearly every start, and is not needed then.
func (l *Log) recover(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.patient)
	defer cancel()
	state, err := l.state(ctx)
	if err != nil {
		return err
	}
	inside, err := l.inside(ctx, state.LastSeq)
	if err != nil {
		return err
	}
	r, err := l.intent.read()
	if err == nil && r != nil && r.after < state.LastSeq && state.LastSeq < r.last() {
		l.torn = r
		stored, err := l.finish(ctx)
		if err != nil || stored {
			return err
		}
	}
	switch {
	case !inside:
		return nil
	case err != nil:
		return fmt.Errorf("it ends at %d, in the middle of a decision, the rest of which is lost: %w: %w", state.LastSeq, err, events.ErrDamaged)
	}
	return fmt.Errorf("it ends at %d, in the middle of a decision, the rest of which is not in %s: %w", state.LastSeq, l.intent.file.Name(), events.ErrDamaged)
}

// inside says whether the last event of the log is followed by more of its decision.
func (l *Log) inside(ctx context.Context, last uint64) (bool, error) {
	if last == 0 {
		return false, nil
	}
	raw, err := l.stream.GetMsg(ctx, last)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil // it has aged away
	}
	if err != nil {
		return false, fmt.Errorf("cannot read event %d of stream %s: %w", last, l.name, err)
	}
	more := raw.Header[hMore]
	return len(more) > 0 && more[0] == "true", nil
}
