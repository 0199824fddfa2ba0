package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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
//   - an append has returned when the journal has it and it was sent. While it is in flight
//     others may follow it; Last, Get and Follow wait for what they tell of;
//   - a record of the journal is forgotten once the stream's files have its events and
//     are synced.
type own struct {
	server *Server
	name   string
	msgs   string // the directory of the blocks
	blocks *hardener
	packer *packer
	// overdue is how long the files may stand still while something is missing there, and
	// quiet how long nothing is appended before they are looked at.
	overdue, quiet time.Duration

	// flights ends when the server is shut down.
	flights context.Context
	ground  context.CancelFunc
	air     air          // it changes while mu is held
	runway  chan *flight // what is to be sent
	nc      *nats.Conn
	tap     *tap             // nc's
	stream  jetstream.Stream // as nc reaches it
	inbox   string           // where the answers to flights come, but for their last sequence

	retrying atomic.Bool // what could not be stored is being finished

	// mu is held while something is appended.
	mu      sync.Mutex
	journal *intent.Journal
	last    uint64      // the stream ends here when nothing is torn or in flight
	torn    *redo       // what is in the journal behind the flight, and may not be in the stream yet
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
	p, err := s.openPacker(l.name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.owns[l.name]; o != nil {
		return o, nil
	}
	// JetStream does not sync that the stream is there.
	if err := syncAll(s.lock); err != nil {
		return nil, err
	}
	o := &own{server: s, name: l.name, packer: p, msgs: p.dir, overdue: overdue, quiet: quiet}
	o.flights, o.ground = context.WithCancel(context.Background())
	if err = l.connect(ctx, o); err == nil {
		err = o.recover(ctx, l)
	}
	if err != nil {
		o.ground()
		if o.nc != nil {
			o.nc.Close()
		}
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
	o.begin(upTo)
	return nil
}

// begin brings to the disk, in the background, what there is up to an event, and compresses
// what is full then.
func (o *own) begin(upTo uint64) {
	done := make(chan struct{})
	o.hardened = done
	o.server.background.Go(func() {
		// Else the server has failed, or is being shut down.
		if o.harden(context.Background(), upTo) == nil {
			close(done)
			o.packer.pack(o.blocks.through())
		}
	})
}

// end has nothing be begun in the background any more.
func (o *own) end() {
	o.ground() // who holds the lock may wait for what is in flight
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
	if o.server.Err() != nil {
		return
	}
	// The files tell also where an answer was not heard.
	if last, err := o.blocks.sync(); err == nil && last == o.last && last >= o.journal.Last() {
		// If it fails the next start forgets.
		_ = o.journal.Reset()
	}
}

// closeFiles closes what was opened. What matters was synced.
func (o *own) closeFiles() {
	o.ended = true
	o.nc.Close()
	if o.rests != nil {
		o.rests.Stop()
	}
	_ = o.journal.Close()
	if o.blocks != nil {
		_ = o.blocks.close()
	}
}
