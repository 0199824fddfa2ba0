package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/reprise-run/reprise/events"
)

// Headers that JetStream reads.
const (
	hExpect = "Nats-Expected-Last-Sequence"
	hBatch  = "Nats-Batch-Id"
	hNumber = "Nats-Batch-Sequence"
	hCommit = "Nats-Batch-Commit"
)

// JetStream's error codes that matter to an append.
const (
	codeWrongLast           = 10071 // the stream ends elsewhere
	codeWrongLastReplicated = 10164 // the same of a stream with replicas
	codeStoreFailed         = 10077 // the disk did not take all of it
	codeIncomplete          = 10176 // messages of the batch are missing
)

// Append is events.Log's. Where this process does not keep the log alone (see own), one
// event is one message, and many are one atomic batch; either carries the expected last
// sequence of the stream, which JetStream checks in the same step in which it stores.
func (l *Log) Append(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(batch) == 0 {
		return after, nil
	}
	if len(batch) > events.MaxBatch {
		return 0, fmt.Errorf("%d events in one batch: a batch may have %d at most", len(batch), events.MaxBatch)
	}
	switch {
	case l.own != nil:
		return l.appendOwn(ctx, after, batch)
	case l.foreign:
		return 0, fmt.Errorf("cannot append to stream %s; nothing was appended: only the process that keeps it does", l.name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.checkRoom(batch, 0); err != nil {
		return 0, err
	}
	msgs := l.messages(after, batch)
	for pause, since := 10*time.Millisecond, time.Now(); ; pause *= 2 {
		last, err := l.send(ctx, after, msgs)
		if err == nil {
			err = l.confirmed()
		}
		l.doubt(err)
		if err == nil && l.packer != nil {
			l.packer.appended(msgs)
		}
		var absent *absentError
		if !errors.As(err, &absent) || time.Since(since) > elections {
			return last, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// confirmed says, of an append that JetStream has answered, whether it is on the disk.
func (l *Log) confirmed() error {
	if err := confirmSync(l.nc, l.name); err != nil {
		return fmt.Errorf("%w: %w", err, events.ErrUncertain)
	}
	return nil
}

// elections is how long an append goes on asking while a stream of several
// replicas has no leader, or not all servers know of it.
const elections = 3 * time.Second

// absentError says that the stream was not there to be appended to, and that
// nothing was stored.
type absentError struct{ error }

func (e *absentError) Unwrap() error { return e.error }

// send makes one attempt.
func (l *Log) send(ctx context.Context, after uint64, msgs []*nats.Msg) (uint64, error) {
	commit := msgs[len(msgs)-1]
	for _, m := range msgs[:len(msgs)-1] {
		// Without its commit message a batch is nothing, so an error here leaves
		// nothing behind.
		if err := l.nc.PublishMsg(m); err != nil {
			return 0, fmt.Errorf("cannot send a batch of %d events to stream %s; nothing was appended: %w", len(msgs), l.name, err)
		}
	}
	waiting, cancel := context.WithTimeout(ctx, l.patient)
	defer cancel()
	closed := l.nc.IsClosed()
	reply, err := l.nc.RequestMsgWithContext(waiting, commit)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return 0, &absentError{fmt.Errorf("cannot append to stream %s, which no server answers for; nothing was appended: %w", l.name, err)}
	case unsent(err, closed):
		return 0, fmt.Errorf("cannot append to stream %s; nothing was appended: %w", l.name, err)
	case err != nil:
		return 0, fmt.Errorf("stream %s did not answer an append after sequence %d (%w; is the disk of the log full?): %w", l.name, after, err, events.ErrUncertain)
	}
	return l.acknowledged(reply.Data, after, len(msgs))
}

// messages are those of an append: one event as it is, or several as an atomic batch.
func (l *Log) messages(after uint64, batch []events.Event) []*nats.Msg {
	msgs := make([]*nats.Msg, len(batch))
	id := ""
	if len(batch) > 1 {
		id = nuid.Next()
	}
	for i := range batch {
		e := batch[i]
		e.Sequence = after + 1 + uint64(i)
		h, body := Encode(&e)
		if i == 0 {
			h[hExpect] = []string{strconv.FormatUint(after, 10)}
		}
		if id != "" {
			h[hBatch] = []string{id}
			h[hNumber] = []string{strconv.Itoa(i + 1)}
			if i == len(batch)-1 {
				h[hCommit] = []string{"1"}
			}
		}
		msgs[i] = &nats.Msg{Subject: subject(l.root, &e), Header: h, Data: body}
	}
	return msgs
}

// checkRoom asks the server in this process, if it is there that the log is kept; so many
// bytes of earlier appends may not be on its disk yet.
func (l *Log) checkRoom(batch []events.Event, flying int) error {
	server := l.embedded()
	if server == nil {
		return nil
	}
	if err := server.Err(); err != nil {
		return fmt.Errorf("cannot append to stream %s; nothing was appended: %w", l.name, err)
	}
	bytes := flying
	for i := range batch {
		e := &batch[i]
		bytes += 3*(len(e.Asked)+len(e.Note)) + len(e.Data) + 3072
	}
	if err := server.room(bytes); err != nil {
		return fmt.Errorf("cannot append %d events to stream %s; nothing was appended: %w", len(batch), l.name, err)
	}
	return nil
}

// acknowledged reads JetStream's answer.
func (l *Log) acknowledged(reply []byte, after uint64, n int) (uint64, error) {
	var ack struct {
		Sequence uint64 `json:"seq"`
		Error    *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(reply, &ack); err != nil {
		return 0, fmt.Errorf("stream %s answered an append with %q: %w", l.name, reply, events.ErrUncertain)
	}
	if e := ack.Error; e != nil {
		switch e.Code {
		case codeWrongLast, codeWrongLastReplicated:
			return 0, fmt.Errorf("appending %d events after sequence %d of stream %s: %w (%s)", n, after, l.name, events.ErrStale, e.Description)
		case codeStoreFailed:
			// The write failed under way: how far it got, only the stream's end tells.
			return 0, fmt.Errorf("stream %s could not store %d events: %s (is the disk full?): %w", l.name, n, e.Description, events.ErrUncertain)
		case codeIncomplete:
			return 0, &absentError{fmt.Errorf("part of a batch of %d events did not reach stream %s; nothing was appended: %s (code %d)", n, l.name, e.Description, e.Code)}
		}
		return 0, fmt.Errorf("stream %s refused %d events; nothing was appended: %s (code %d)", l.name, n, e.Description, e.Code)
	}
	if want := after + uint64(n); ack.Sequence != want {
		return 0, fmt.Errorf("stream %s put the last of %d events at sequence %d, not %d: somebody has deleted from it or published to it without the expected sequence: %w", l.name, n, ack.Sequence, want, events.ErrUncertain)
	}
	return ack.Sequence, nil
}
