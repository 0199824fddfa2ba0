package blocks

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/reprise-run/reprise/events/jetstream/blockfile"
	"github.com/reprise-run/reprise/events/proof"
)

// Result is what came of an audit of the files.
type Result struct {
	// Finding says what is wrong with the log, nil if nothing is.
	Finding *proof.Finding
	// Remark is what an auditor should know though it proves nothing, "" for
	// nothing.
	Remark string
	// Newer is set if only a newer version of this program can read on from there.
	Newer error
}

// Audit reads all blocks, several at a time, and gives their events to an audit in
// order. after, which may be nil, is called after each block with the bytes read so
// far and the last sequence. It fails only if the files cannot be read.
func (s *Stream) Audit(ctx context.Context, a *proof.Audit, after func(read int64, sequence uint64)) (r Result, err error) {
	if after == nil {
		after = func(int64, uint64) {}
	}
	if s.beside {
		r, err = s.auditBeside(ctx, a, after)
	} else {
		r, err = s.auditAtRest(ctx, a, after)
	}
	if err != nil {
		return r, err
	}
	if r.Finding == nil && r.Newer == nil {
		r.Finding = a.End()
		if r.Finding != nil && r.Remark != "" {
			r.Finding.Reason += "; " + r.Remark
			r.Remark = ""
		}
	}
	return r, ctx.Err()
}

// auditAtRest audits the files of a server that does not run. It may have ended in a
// crash.
func (s *Stream) auditAtRest(ctx context.Context, a *proof.Audit, after func(int64, uint64)) (r Result, err error) {
	var read int64
	n := 0
	err = s.inspect(ctx, s.blocks, func(next inspected) error {
		n++
		if at := a.Taken() + 1; next.first > at && s.joinRest(a) {
			r.Remark = fmt.Sprintf("block %s does not begin with event %d: what a crash takes of the blocks the journal has, and it was read from there", filepath.Base(next.block.Path), at)
			return errFound
		}
		if a.Join(next.piece) != nil {
			return errFound
		}
		if f := next.block.Fault; f != nil {
			if r = next.block.judge(a, n == len(s.blocks)); f.Torn && s.joinRest(a) {
				r = Result{Remark: fmt.Sprintf("block %s breaks off at byte %d (%s): what a crash takes of the blocks the journal has, and it was read from there", filepath.Base(next.block.Path), f.At, f.Reason)}
			}
			return errFound
		}
		read += next.block.Size
		after(read, a.Taken())
		return nil
	})
	if err == nil {
		s.joinRest(a)
	}
	if errors.Is(err, errFound) {
		err = nil
	}
	return r, err
}

// inspected is a block that was checked by itself. Its events are in the piece.
type inspected struct {
	block  *Block
	first  uint64 // the sequence of its first event, 0 if it has none
	piece  *proof.Piece
	differ uint64 // the first event that is another in the journal, 0 if none is
}

// inspect reads blocks, several at a time, and gives them to take in order, until that
// fails.
func (s *Stream) inspect(ctx context.Context, blocks []blockfile.File, take func(inspected) error) error {
	group, inner := errgroup.WithContext(ctx)
	// Each worker holds a block in memory, and one more waits for its turn.
	ahead := make(chan chan inspected, runtime.GOMAXPROCS(0))
	group.Go(func() error {
		defer close(ahead)
		for _, f := range blocks {
			done := make(chan inspected, 1)
			select {
			case ahead <- done:
			case <-inner.Done():
				return nil
			}
			group.Go(func() error {
				b, err := s.readFile(f)
				if err == nil && b.Fault != nil && s.beside {
					b, err = s.readFile(f)
				}
				if err != nil {
					return err
				}
				done <- s.check(b)
				return nil
			})
		}
		return nil
	})
	group.Go(func() error {
		for done := range ahead {
			select {
			case next := <-done:
				if err := take(next); err != nil {
					return err
				}
			case <-inner.Done():
				return inner.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

// check checks a block by itself, and takes its events from it.
func (s *Stream) check(b *Block) inspected {
	next := inspected{block: b, piece: proof.Inspect(b.Events)}
	if len(b.Events) > 0 {
		next.first = b.Events[0].Sequence
	}
	if s.beside {
		next.differ = s.differ(b.Events)
	}
	b.Events = nil
	return next
}

// joinRest gives an audit what the journal has beyond the events taken so far, and says
// whether it has any.
func (s *Stream) joinRest(a *proof.Audit) bool {
	rest := s.rest(a.Taken() + 1)
	if len(rest) > 0 {
		// What is wrong with it a.End tells.
		_ = a.Join(proof.Inspect(rest))
	}
	return len(rest) > 0
}

var errFound = errors.New("something was found")

// judge says what the fault of a block comes to.
func (b *Block) judge(a *proof.Audit, last bool) Result {
	f := b.Fault
	at := a.Taken() + 1
	where := fmt.Sprintf("block %s at byte %d", filepath.Base(b.Path), f.At)
	switch {
	case f.Newer != nil:
		return Result{Newer: fmt.Errorf("in %s: %w", where, f.Newer)}
	case last && f.Tail:
		return Result{Remark: fmt.Sprintf("behind event %d, in %s, the log ends in what is no event (%s): a crash leaves that of an append which was never acknowledged, and so does damage to what was the end", at-1, where, f.Reason)}
	}
	return Result{Finding: &proof.Finding{First: at, Last: at, Reason: "in " + where + ": " + f.Reason}}
}
