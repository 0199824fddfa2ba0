// Package jetstream keeps the log on NATS JetStream: in a server that it runs
// inside this process, or in an external cluster. It also elects holders of
// leases there, and carries proposals to the committer from wherever they are
// made. Only cmd and tests wire it; all others know events.Log, events.Lease and
// events.Proposer.
//
// # Streams
//
// The history is one stream of subjects <prefix>.<group>.<resource>.<namespace>.<fact>,
// from which nothing is ever deleted. The volatile log (see events.Volatile) is
// another, <prefix>-volatile.…, whose messages age away. The object's name is in
// the envelope and not in the subject, because JetStream keeps every distinct
// subject in memory. An event is a CloudEvents 1.0 message in NATS binary mode:
// see Encode.
//
// # Durability
//
// A returned Append is on disk: the embedded server syncs before it
// acknowledges, or it is in a journal beside the stream (see own). What fails on the
// way either is known to have stored nothing, or says events.ErrUncertain. After a
// write or a sync that failed, nothing is taken or confirmed any more: see
// Server.Failed.
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
)

// Log is one log on JetStream.
type Log struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	name   string
	root   string
	// forgets says that old events age away, so that a gap at the beginning is
	// no loss.
	forgets bool
	patient time.Duration
	// doubtful says that an append was not answered since the disk was last known
	// to be sound.
	doubtful atomic.Bool

	mu sync.Mutex // held while something is appended otherwise than to own

	own *own // nil where the log is not kept by this process alone
	// packer is nil where the log is own's, and where others than this process have copies.
	packer *packer
	// foreign says that another process keeps it alone.
	foreign bool
}

var _ events.Log = (*Log)(nil)

// Last is events.Log's.
func (l *Log) Last(ctx context.Context) (uint64, error) {
	if o := l.own; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if err := l.finish(ctx, o); err != nil {
			return 0, err
		}
		return o.last, l.refuse()
	}
	state, err := l.state(ctx)
	return state.LastSeq, err
}

// First is events.Log's.
func (l *Log) First(ctx context.Context) (uint64, error) {
	state, err := l.state(ctx)
	if state.Msgs == 0 {
		return state.LastSeq + 1, err
	}
	return state.FirstSeq, err
}

func (l *Log) state(ctx context.Context) (jetstream.StreamState, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("cannot ask where stream %s ends: %w", l.name, err)
	}
	return info.State, l.refuse()
}

// Get is events.Log's.
func (l *Log) Get(ctx context.Context, sequence uint64) (events.Event, error) {
	if sequence == 0 {
		return events.Event{}, events.ErrNotFound
	}
	e, err := l.read(ctx, sequence)
	if errors.Is(err, events.ErrNotFound) && l.own != nil {
		if err := l.reach(ctx, l.own, sequence); err != nil {
			return events.Event{}, fmt.Errorf("cannot read event %d of stream %s: %w", sequence, l.name, err)
		}
		return l.read(ctx, sequence)
	}
	return e, err
}

// read is Get of what the stream has by now.
func (l *Log) read(ctx context.Context, sequence uint64) (events.Event, error) {
	raw, err := l.stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return events.Event{}, fmt.Errorf("%d: %w", sequence, events.ErrNotFound)
	}
	if err != nil {
		return events.Event{}, fmt.Errorf("cannot read event %d of stream %s: %w", sequence, l.name, err)
	}
	if err := l.confirm(); err != nil {
		return events.Event{}, fmt.Errorf("cannot say whether event %d of stream %s is on the disk: %w", sequence, l.name, err)
	}
	return Decode(raw.Header, raw.Data, sequence)
}
