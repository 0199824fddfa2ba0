package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// own is a stream that this process alone keeps and appends to. What is appended is
// first written down in its journal, with one sync, and then sent as single messages,
// which the stream stores without a sync for each. So
//
//   - what can be read in the stream is on disk, in the journal at least;
//   - what is in the journal is in the stream, or comes there before anything else does,
//     in this process or the next;
//   - a record of the journal is forgotten once the stream's files have its events and
//     are synced.
type own struct {
	server *Server
	name   string
	msgs   string // the directory of the blocks
	blocks *hardener
	// overdue is how long the files may stand still while something is missing there, and
	// quiet how long nothing is appended before they are looked at.
	overdue, quiet time.Duration

	// mu is held while something is appended.
	mu      sync.Mutex
	journal *intent.Journal
	last    uint64      // the stream ends here when nothing is torn
	torn    *redo       // an append that is in the journal, and may not be in the stream yet
	ended   bool        // nothing is begun in the background any more
	rests   *time.Timer // calls rest when nothing was appended for a while; nil before anything is

	hardened chan struct{} // closed when what the other file of the journal holds is on disk
}

// redo is an append that is in the journal.
type redo struct {
	after uint64
	batch []events.Event
}

func (r *redo) last() uint64 { return r.after + uint64(len(r.batch)) }

// openOwn returns the stream of a log in this process, the same for all who open it.
func (s *Server) openOwn(ctx context.Context, l *Log) (*own, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.owns[l.name]; o != nil {
		return o, nil
	}
	found, err := filepath.Glob(filepath.Join(s.dir, "jetstream", "*", "streams", l.name, "msgs"))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d directories have its blocks, and one must", len(found))
	}
	// JetStream does not sync that the stream is there.
	if err := syncAll(s.lock); err != nil {
		return nil, err
	}
	o := &own{server: s, name: l.name, msgs: found[0], overdue: overdue, quiet: quiet}
	if err := o.recover(ctx, l); err != nil {
		return nil, err
	}
	s.owns[l.name] = o
	return o, nil
}

// recover brings into the stream what is in the journal and not there, and begins the
// journal anew.
func (o *own) recover(ctx context.Context, l *Log) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, ready)
	defer cancel()
	state, err := l.state(ctx)
	if err != nil {
		return err
	}
	journal, all, err := intent.Open(o.server.dir, o.name, intent.Options{Full: o.server.segment, Unsynced: o.server.unsafe})
	if err != nil {
		return err
	}
	o.journal, o.last = journal, state.LastSeq
	// What was there when the server started is on disk: see settle.
	o.blocks, err = newHardener(o.msgs, o.name, state.LastSeq)
	if err == nil {
		err = o.redo(ctx, l, all)
	}
	if err == nil {
		err = l.whole(ctx, o.last)
	}
	if err == nil && o.last > state.LastSeq {
		err = o.harden(ctx, o.last)
	}
	if err == nil {
		err = o.journal.Reset()
	}
	if err != nil {
		o.closeFiles()
		return err
	}
	o.hardened = make(chan struct{})
	close(o.hardened)
	return nil
}

// stored notes that the stream has all that is in the journal.
func (o *own) stored(last uint64) {
	o.torn, o.last = nil, last
	if o.rests == nil {
		o.rests = time.AfterFunc(o.quiet, o.rest)
	} else {
		o.rests.Reset(o.quiet)
	}
}

// redo appends what the journal has and the stream lacks.
func (o *own) redo(ctx context.Context, l *Log, all []intent.Record) error {
	for _, r := range all {
		switch {
		case r.Last() <= o.last:
		case o.torn != nil:
			o.torn.batch = append(o.torn.batch, r.Events...)
		case r.After > o.last:
			return fmt.Errorf("it ends at %d, and what was to be appended begins behind %d: %w", o.last, r.After, events.ErrDamaged)
		default:
			o.torn = &redo{r.After, r.Events}
		}
	}
	return l.finish(ctx, o)
}

// whole fails if an event, which is the stream's last, is followed by more of its
// decision.
func (l *Log) whole(ctx context.Context, last uint64) error {
	if last == 0 {
		return nil
	}
	raw, err := l.stream.GetMsg(ctx, last)
	if l.forgets && errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil // it has aged away
	}
	if err != nil {
		return fmt.Errorf("cannot read event %d of stream %s: %w", last, l.name, err)
	}
	if raw.Header.Get(hMore) == "true" {
		return fmt.Errorf("it ends at %d, in the middle of a decision, the rest of which is lost, or only known to the version of this program that wrote it: %w", last, events.ErrDamaged)
	}
	return nil
}

// appendOwn appends to a stream of this process.
func (l *Log) appendOwn(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	o := l.own
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := l.finish(ctx, o); err != nil {
		return 0, fmt.Errorf("%w: %w", err, events.ErrUncertain)
	}
	if after != o.last {
		return 0, fmt.Errorf("appending %d events after sequence %d of stream %s, which ends at %d: %w", len(batch), after, l.name, o.last, events.ErrStale)
	}
	if err := l.checkRoom(batch); err != nil {
		return 0, err
	}
	r := &redo{after, batch}
	msgs := l.singles(r, after)
	if err := l.fits(msgs); err != nil {
		return 0, err
	}
	if err := o.write(ctx, r); err != nil {
		return 0, err
	}
	o.torn = r
	// From here on it will be in the stream, whatever becomes of this process.
	err := l.publish(ctx, o, after, msgs)
	if err == nil {
		o.stored(r.last())
		return o.last, nil
	}
	l.doubt(err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.patient)
	defer cancel()
	if again := l.finish(ctx, o); again != nil {
		return 0, fmt.Errorf("%w (%w): %w", err, again, events.ErrUncertain)
	}
	return o.last, nil
}

// write puts an append into the journal.
func (o *own) write(ctx context.Context, r *redo) error {
	if o.journal.Full() {
		if err := o.turn(ctx); err != nil {
			return fmt.Errorf("cannot append to stream %s; nothing was appended: %w", o.name, err)
		}
	}
	err := o.journal.Write(r.after, r.batch)
	if intent.Unwritten(err) {
		return fmt.Errorf("cannot append to stream %s; nothing was appended: %w", o.name, err)
	}
	if err != nil {
		// It may be on disk.
		return fmt.Errorf("%w: %w", o.server.fail(o.name, err.Error()), events.ErrUncertain)
	}
	return nil
}

// turn goes on in the other file of the journal, once the stream has on disk what that
// holds, and begins to bring there what this one holds.
func (o *own) turn(ctx context.Context) error {
	if o.ended {
		return errors.New("the server is shut down")
	}
	select {
	case <-o.hardened:
	case <-o.server.failed:
		return o.server.Err()
	case <-o.server.closed:
		return errors.New("the server is shut down")
	case <-ctx.Done():
		return fmt.Errorf("the disk has not caught up: %w", ctx.Err())
	}
	upTo := o.journal.Last()
	o.journal.Turn()
	if !o.server.unsafe {
		o.begin(upTo)
	}
	return nil
}

// begin brings to the disk, in the background, what there is up to an event.
func (o *own) begin(upTo uint64) {
	done := make(chan struct{})
	o.hardened = done
	o.server.background.Go(func() {
		// Else the server has failed, or is being shut down.
		if o.harden(context.Background(), upTo) == nil {
			close(done)
		}
	})
}

// Publishing waits for an answer after so many messages, or bytes, because JetStream
// drops what it cannot queue.
const (
	mostQueued      = 500
	mostQueuedBytes = 16 << 20
)

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
func (l *Log) fits(msgs []*nats.Msg) error {
	for _, m := range msgs {
		head := len("NATS/1.0\r\n\r\n")
		for key, values := range m.Header {
			head += len(key) + len(values[0]) + len(": \r\n")
		}
		if len(m.Subject) > mostSubject {
			return fmt.Errorf("cannot append to stream %s an event whose subject has %d bytes; nothing was appended: %w", l.name, len(m.Subject), nats.ErrBadSubject)
		}
		if head > math.MaxUint16 || int64(head+len(m.Data)) > l.nc.MaxPayload() {
			return fmt.Errorf("cannot append to stream %s an event of %d bytes, %d of them in headers; nothing was appended: %w", l.name, head+len(m.Data), head, nats.ErrMaxPayload)
		}
	}
	return nil
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

// finish has the stream store what is in the journal and was not seen to be stored.
func (l *Log) finish(ctx context.Context, o *own) error {
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
		e, err := l.Get(ctx, state.LastSeq)
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
	o.stored(r.last())
	return nil
}

// end has nothing be begun in the background any more.
func (o *own) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

// close closes the journal of a server that is shut down, and forgets what it holds if
// that is on disk.
func (o *own) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.closeFiles()
	if o.torn != nil || o.server.Err() != nil {
		return
	}
	if last, err := o.blocks.sync(); err == nil && last == o.last {
		// If it fails the next start forgets.
		_ = o.journal.Reset()
	}
}

// closeFiles closes what was opened. What matters was synced.
func (o *own) closeFiles() {
	o.ended = true
	if o.rests != nil {
		o.rests.Stop()
	}
	_ = o.journal.Close()
	if o.blocks != nil {
		_ = o.blocks.close()
	}
}
