package blocks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
	"github.com/reprise-run/reprise/events/jetstream/intent"
	"github.com/reprise-run/reprise/events/proof"
)

// Beside a running server nothing is owed to a crash: its start has made whole what one
// had left. What the journal has the blocks get within moments, and they must have the
// same. Whoever reads meets the server at work in these places only:
//
//   - JetStream writes a block from its beginning to its end, and all of it before it
//     makes the file of the next. So only the last block may end within an event, and if
//     anything follows what cannot be read, that is damage;
//   - a full block is replaced by the same, compressed, in one step;
//   - an event is in the journal before it is in a block. So what the journal had before
//     the blocks are read must come to be there, and what it has after that includes all
//     of them, but for what it has forgotten.

// patience is how long what may be the server's work is read again before it is not taken
// for that any more.
type patience struct {
	// still is for what is there in full and cannot be read, and overdue for what is yet
	// to come: as long as the server itself waits for JetStream to write.
	still, overdue time.Duration
}

// between is the longest time between two looks.
const between = 100 * time.Millisecond

// OpenBeside is Open beside a server that runs on the directory.
func OpenBeside(dir, prefix string) (*Stream, error) {
	s := newStream(dir, prefix)
	s.beside, s.patient = true, patience{time.Second, time.Minute}
	// First, so that the blocks must have it.
	records, err := intent.ReadBeside(dir, s.name)
	// Damage is told at the end, where its place among all else is known.
	if damage := (*intent.Damage)(nil); err != nil && !errors.As(err, &damage) {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	s.journal = eventsOf(records)
	return s, s.find()
}

// auditBeside audits the files of a server that runs.
func (s *Stream) auditBeside(ctx context.Context, a *proof.Audit, after func(int64, uint64)) (r Result, err error) {
	var read int64
	err = s.inspect(ctx, s.blocks[:max(0, len(s.blocks)-1)], func(next inspected) error {
		if r.Finding = s.join(a, next); r.Finding != nil {
			return errFound
		}
		if next.block.Fault != nil {
			r = next.block.judge(a, false)
			return errFound
		}
		read += next.block.Size
		after(read, a.Taken())
		return nil
	})
	if err == nil {
		e := ending{stream: s, audit: a, since: time.Now()}
		if len(s.blocks) > 0 {
			e.index = s.blocks[len(s.blocks)-1].Index
		}
		if n := len(s.journal); n > 0 {
			e.reach = s.journal[n-1].Sequence
		}
		r, err = e.run(ctx)
		after(s.bytes, a.Taken())
	}
	switch {
	case errors.Is(err, errFound):
		return r, nil
	case err != nil || r.Finding != nil || r.Newer != nil:
		return r, err
	}
	r.Finding, err = s.compareJournal(a.Taken())
	return r, err
}

// join gives an audit what a block has, and what the journal says against it.
func (s *Stream) join(a *proof.Audit, next inspected) *proof.Finding {
	found := a.Join(next.piece)
	if n := next.differ; n > 0 && (found == nil || n < found.First) {
		found = &proof.Finding{First: n, Last: n, Reason: fmt.Sprintf("block %s has another event there than the journal", filepath.Base(next.block.Path))}
	}
	return found
}

// differ returns the first of some events that is another in the journal, 0 if none is.
func (s *Stream) differ(all []events.Event) uint64 {
	var is, was []byte
	for i := range all {
		rest := s.rest(all[i].Sequence)
		if len(rest) == 0 {
			continue
		}
		is, was = all[i].AppendSealed(is[:0]), rest[0].AppendSealed(was[:0])
		if all[i].Chain != rest[0].Chain || !bytes.Equal(is, was) {
			return all[i].Sequence
		}
	}
	return 0
}

// ending reads the blocks to which the server writes, from the one that was its last.
type ending struct {
	stream *Stream
	audit  *proof.Audit
	index  uint64 // of the block that is read
	reach  uint64 // the event up to which they are read at least
	torn   bool   // an event was met that was not whole, and reach is at least that
	fault  Fault  // what was wrong at the last look
	since  time.Time
}

// run reads until they have been read up to reach, or something is found.
func (e *ending) run(ctx context.Context) (Result, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, between) {
		taken, index := e.audit.Taken(), e.index
		r, done, err := e.look()
		if done || err != nil {
			return r, err
		}
		if e.index != index || e.audit.Taken() > taken {
			wait = time.Millisecond
			e.since = time.Now()
			continue
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// look reads the block, and says whether that was all.
func (e *ending) look() (r Result, done bool, err error) {
	s := e.stream
	// First, because the next block tells that this one is full.
	if err := s.find(); err != nil {
		return r, false, err
	}
	at := slices.IndexFunc(s.blocks, func(f blockfile.File) bool { return f.Index >= e.index })
	if at < 0 {
		return e.missing(fmt.Sprintf("the file %d.blk is not there", e.index))
	}
	e.index = s.blocks[at].Index
	full := at < len(s.blocks)-1
	b, err := s.readFile(s.blocks[at])
	if err != nil {
		return r, false, err
	}
	for len(b.Events) > 0 && b.Events[0].Sequence <= e.audit.Taken() {
		b.Events = b.Events[1:]
	}
	if r.Finding = s.join(e.audit, s.check(b)); r.Finding != nil {
		return r, true, nil
	}
	seen := e.fault
	if e.fault = (Fault{}); b.Fault != nil {
		e.fault = *b.Fault
	}
	switch f := b.Fault; {
	case f == nil && full:
		e.index, e.fault = e.index+1, Fault{}
		return r, false, nil
	case f == nil:
		return e.missing(fmt.Sprintf("block %s ends before it", filepath.Base(b.Path)))
	case f.Newer != nil || full || !f.Tail || !f.Torn:
		return b.judge(e.audit, false), seen.At == f.At && seen.Reason == f.Reason, nil
	}
	if next := e.audit.Taken() + 1; !e.torn {
		e.torn, e.reach = true, max(e.reach, next)
	} else if e.reach < next {
		return r, true, nil // what was torn before is whole: the server writes
	}
	limit := s.patient.still
	if b.Fault.Cut {
		limit = s.patient.overdue
	}
	if time.Since(e.since) < limit {
		return r, false, nil
	}
	return b.judge(e.audit, false), true, nil
}

// missing says that the blocks have no more than what was taken, and what comes of it.
func (e *ending) missing(reason string) (r Result, done bool, err error) {
	next := e.audit.Taken() + 1
	if e.reach < next {
		return r, true, nil
	}
	if time.Since(e.since) < e.stream.patient.overdue {
		return r, false, nil
	}
	r.Finding = &proof.Finding{First: next, Last: next, Reason: "it was appended, and " + reason + ": it was taken away, or the server cannot write it"}
	return r, true, nil
}

// compareJournal reads the journal again, which must have all that was read of the blocks
// up to an event, if it has not forgotten it.
func (s *Stream) compareJournal(last uint64) (*proof.Finding, error) {
	records, err := intent.ReadBeside(s.dir, s.name)
	if d := (*intent.Damage)(nil); errors.As(err, &d) {
		return &proof.Finding{First: d.After + 1, Last: max(d.After+1, d.Through), Reason: "in the journal, " + d.Error()}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	if n := len(records); n > 0 && records[n-1].Last() < last {
		return &proof.Finding{First: records[n-1].Last() + 1, Last: last, Reason: "the blocks have it, and the journal, into which it was written first, ends before it"}, nil
	}
	return nil, nil
}
