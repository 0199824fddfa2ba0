package pebble

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Report is what came of Verify.
type Report struct {
	// Sequence is how far the projection was compared.
	Sequence uint64
	// Chain is the hash chain's last link there, in hex: who noted it earlier can
	// tell that the history up to there is the same.
	Chain string
	// Objects is how many there are, Keys how many keys the projection has.
	Objects, Keys int
	// Hash is the SHA-256 over the rebuilt projection, and Stored that over the
	// one in use.
	Hash, Stored string
	// State is the hash of the objects as rebuilt (projections.Hash), and Live
	// that of the objects in memory that the API serves, if they were compared.
	State, Live string
	// Damage says what is wrong with the log, and Difference where the
	// projection first differs from what the log says. Both empty: identical.
	Damage, Difference string
}

// Identical says whether nothing was found.
func (r *Report) Identical() bool { return r.Damage == "" && r.Difference == "" }

// Followed is as much of an events.Log as Verify needs.
type Followed interface {
	Last(ctx context.Context) (uint64, error)
	Follow(ctx context.Context, from uint64) (events.Reader, error)
}

// Verify reads the whole log, checks its hash chain, folds it from zero into a
// projection beside this one, and compares the two key by key. live, which may
// be nil, is a view of what the process serves from memory, compared at its
// sequence. The projection goes on being used meanwhile.
func (s *Store) Verify(ctx context.Context, log Followed, live projections.Reader) (report *Report, err error) {
	s.verifying.Lock()
	defer s.verifying.Unlock()
	defer func() {
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			// Pebble's errors are marked in a way of their own.
			if !pebble.IsCorruptionError(err) {
				return
			}
			damaged = &DamagedError{err}
		}
		s.mark()
		report, err = nil, damaged
	}()
	folded := s.Folded()
	stored, err := s.stored()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	end, err := readCursor(stored)
	if err != nil {
		return nil, err
	}
	if end.sequence < folded {
		return nil, &DamagedError{fmt.Errorf("its files go up to sequence %d, and it was folded up to %d", end.sequence, folded)}
	}
	dir, opts := s.dir+".verify", s.opts
	if s.scratch != "" {
		dir, opts.FS = s.scratch, vfs.Default
	}
	if err := opts.FS.RemoveAll(dir); err != nil {
		return nil, err
	}
	fresh, err := Open(dir, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fresh.Close(), opts.FS.RemoveAll(dir)) }()
	report = &Report{Sequence: end.sequence}
	r := rebuild{store: fresh, builder: projections.NewBuilder(nil, 0), live: live, report: report}
	if err := r.run(ctx, log, end.sequence); err != nil {
		return nil, err
	}
	if !report.Identical() {
		return report, nil
	}
	if err := fresh.Filled(); err != nil {
		return nil, err
	}
	return report, compare(ctx, stored, fresh.db, report)
}

// rebuild folds a log from zero.
type rebuild struct {
	store   *Store
	builder *projections.Builder // folds up to the first of stops
	state   *projections.State   // folds from there on
	chain   [32]byte
	live    projections.Reader
	report  *Report
}

func (r *rebuild) run(ctx context.Context, log Followed, end uint64) error {
	if r.live != nil {
		end = max(end, r.live.Sequence())
	}
	if end == 0 {
		return nil
	}
	last, err := log.Last(ctx)
	if err != nil {
		return err
	}
	if last < end {
		r.report.Damage = fmt.Sprintf("the log ends at sequence %d, and events up to %d have been seen: it has lost some", last, end)
		return nil
	}
	reader, err := log.Follow(ctx, 1)
	if err != nil {
		return err
	}
	defer reader.Close()
	for r.sequence() < end && r.report.Damage == "" {
		batch, err := reader.Next(ctx)
		if err != nil {
			return fmt.Errorf("cannot read the log after sequence %d: %w", r.sequence(), err)
		}
		if err := r.take(batch); err != nil {
			return err
		}
	}
	return nil
}

// take checks and folds a batch, as far as the projections that it is compared
// with have come, stopping where either ends.
func (r *rebuild) take(batch []events.Event) error {
	for len(batch) > 0 && r.report.Damage == "" {
		from := r.sequence()
		n := len(batch)
		for _, stop := range r.stops() {
			if stop > from {
				n = min(n, int(stop-from))
			}
		}
		if err := r.fold(batch[:n]); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// sequence is that of the last event folded.
func (r *rebuild) sequence() uint64 {
	if r.builder != nil {
		return r.builder.Sequence()
	}
	return r.state.Sequence()
}

func (r *rebuild) stops() []uint64 {
	stops := []uint64{r.report.Sequence}
	if r.live != nil {
		stops = append(stops, r.live.Sequence())
	}
	return stops
}

func (r *rebuild) fold(batch []events.Event) error {
	chain, err := events.VerifyChain(r.sequence(), r.chain, batch)
	var broken *events.ChainError
	if errors.As(err, &broken) {
		r.report.Damage = broken.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.step(batch); err != nil || r.report.Damage != "" {
		return err
	}
	r.chain = chain
	at := r.sequence()
	if r.builder != nil && slices.Contains(r.stops(), at) {
		r.state, r.builder = r.builder.State(), nil
	}
	if at == r.report.Sequence {
		r.report.Objects, r.report.State = r.state.Len(), projections.Hash(r.state.View())
		r.report.Chain = hex.EncodeToString(chain[:])
	}
	if r.live != nil && at == r.live.Sequence() {
		r.report.Live = projections.Hash(r.live)
		if rebuilt := r.state.View(); projections.Hash(rebuilt) != r.report.Live {
			r.report.Difference = "in memory: " + firstDifference(rebuilt, r.live)
		}
	}
	return nil
}

// step folds a batch and stores it, as far as the projection goes that it is
// compared with.
func (r *rebuild) step(batch []events.Event) (err error) {
	var outcomes []projections.Outcome
	var changes []projections.Change
	if r.builder != nil {
		outcomes, err = r.builder.Fold(batch)
	} else {
		changes, err = r.state.Fold(batch)
	}
	switch {
	case err != nil:
		r.report.Damage = err.Error()
		return nil
	case r.sequence() > r.report.Sequence:
		return nil
	case r.builder != nil:
		return r.store.Fill(batch, outcomes)
	}
	return r.store.Commit(batch, changes)
}

// firstDifference compares what was rebuilt with what is served.
func firstDifference(rebuilt, served projections.Reader) string {
	for resource := range rebuilt.Resources() {
		for e := range rebuilt.List(resource.Group, resource.Resource, "") {
			other := served.Get(e.Ref)
			if other == nil {
				return fmt.Sprintf("%s is missing", e.Ref)
			}
			if e.Line() != other.Line() {
				return fmt.Sprintf("%s should be\n  %s\nand is\n  %s", e.Ref, e.Line(), other.Line())
			}
		}
	}
	for resource := range served.Resources() {
		for e := range served.List(resource.Group, resource.Resource, "") {
			if rebuilt.Get(e.Ref) == nil {
				return fmt.Sprintf("%s should not be there", e.Ref)
			}
		}
	}
	return "the sequences differ"
}

// compare walks both databases side by side.
func compare(ctx context.Context, stored, rebuilt pebble.Reader, report *Report) (err error) {
	was, err := stored.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, was.Close()) }()
	is, err := rebuilt.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, is.Close()) }()
	storedSum, rebuiltSum := sha256.New(), sha256.New()
	sum := func(h interface{ Write([]byte) (int, error) }, it *pebble.Iterator) {
		var size [8]byte
		for _, part := range [][]byte{it.Key(), it.Value()} {
			binary.BigEndian.PutUint64(size[:], uint64(len(part)))
			h.Write(size[:])
			h.Write(part)
		}
	}
	for a, b := was.First(), is.First(); a || b; a, b = was.Next(), is.Next() {
		// One that cannot be read ends like one that is done.
		if err := errors.Join(ctx.Err(), was.Error(), is.Error()); err != nil {
			return err
		}
		switch {
		case !a || (b && bytes.Compare(was.Key(), is.Key()) > 0):
			report.Difference = "stored: the " + describe(is.Key()) + " is missing"
		case !b || bytes.Compare(was.Key(), is.Key()) < 0:
			report.Difference = "stored: the " + describe(was.Key()) + " should not be there"
		case !bytes.Equal(was.Value(), is.Value()):
			report.Difference = fmt.Sprintf("stored: the %s should be\n  %q\nand is\n  %q", describe(is.Key()), is.Value(), was.Value())
		}
		if report.Difference != "" {
			return nil
		}
		report.Keys++
		sum(storedSum, was)
		sum(rebuiltSum, is)
	}
	report.Stored, report.Hash = hex.EncodeToString(storedSum.Sum(nil)), hex.EncodeToString(rebuiltSum.Sum(nil))
	return errors.Join(was.Error(), is.Error())
}
