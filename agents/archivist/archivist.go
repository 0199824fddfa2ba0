// Package archivist puts a part of a cluster's history into an archive, and makes of
// an archive a projection that can be asked as the cluster's own can. `reprise export`
// and `reprise open` call it. It reads a history and never writes to one.
package archivist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/events/proof"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
)

// Source is what archives are made of.
type Source struct {
	// Log has the events, and Reader, a projection of it, the state before them.
	Log    events.Log
	Reader history.Reader
	// Prover proves what is in the log, and Checkpoint returns a signed checkpoint
	// of all that there is now. Without them an archive has no proof.
	Prover     *proof.Prover
	Checkpoint func(context.Context) ([]byte, error)
	// Unsigned is told why there was no checkpoint, and the archive has no proof. May
	// be nil.
	Unsigned func(error)
	// Program is the version of this program.
	Program string
	// Now is the time; the clock's if nil.
	Now func() time.Time
}

// Write writes an archive of the events from one sequence to another, both included;
// zero is the log's end on that side. As decisions are not cut apart, it may have a
// few events more on either side. It reads the log and disturbs nobody else who does.
func (s Source) Write(ctx context.Context, w io.Writer, from, to uint64) error {
	if to == 0 {
		to = s.Reader.Folded()
	}
	signed, own, err := s.checkpoint(ctx)
	if err != nil {
		return err
	}
	h, objects, err := s.header(ctx, from, to)
	if err != nil {
		return err
	}
	if h.Origin = own.Origin; own.Size > 0 && own.Size >= h.From-1 {
		if h.Proof, err = s.prove(h, signed, own); err != nil {
			return err
		}
	}
	a, err := archive.NewWriter(w, h)
	if err != nil {
		return err
	}
	for o := range objects {
		if err := a.Object(&o); err != nil {
			return err
		}
	}
	if err := s.events(ctx, a, h); err != nil {
		return err
	}
	return a.Close()
}

// checkpoint returns a checkpoint, nothing if there is nobody to sign one: an archive
// can be had all the same, and says that it has none.
func (s Source) checkpoint(ctx context.Context) (signed []byte, c proof.Checkpoint, err error) {
	if s.Checkpoint == nil || s.Prover == nil {
		return nil, c, nil
	}
	if signed, err = s.Checkpoint(ctx); err != nil {
		if s.Unsigned != nil && ctx.Err() == nil {
			s.Unsigned(err)
		}
		return nil, c, ctx.Err()
	}
	if c, err = archive.OpenCheckpoint(signed); err != nil {
		return nil, c, fmt.Errorf("cannot read the newest checkpoint: %w", err)
	}
	return signed, c, nil
}

// prove ties the archive's events to a checkpoint.
func (s Source) prove(h archive.Header, signed []byte, c proof.Checkpoint) (*archive.Proof, error) {
	p := &archive.Proof{Checkpoint: string(signed)}
	if h.From > 1 {
		tree, err := s.Prover.Tree(h.From - 1)
		if err != nil {
			return nil, fmt.Errorf("cannot prove what was before event %d: %w", h.From, err)
		}
		p.Tree = &tree
	}
	if c.Size <= h.To {
		return p, nil
	}
	var err error
	if p.Grown, err = s.Prover.Consistency(h.To, c.Size); err != nil {
		return nil, fmt.Errorf("cannot prove that event %d is the log's: %w", h.To, err)
	}
	return p, nil
}

// header says what will be in the archive.
func (s Source) header(ctx context.Context, from, to uint64) (h archive.Header, objects iter.Seq[archive.Object], err error) {
	folded := s.Reader.Folded()
	if from, to, err = s.whole(max(from, 1), to, folded); err != nil {
		return h, nil, err
	}
	h = archive.Header{From: from, To: to, Program: s.Program, Created: time.Now()}
	if s.Now != nil {
		h.Created = s.Now()
	}
	system, err := s.Reader.At(events.Ref{Resource: "namespaces", Name: "kube-system"}, folded)
	if err != nil {
		return h, nil, err
	}
	if system != nil {
		h.Cluster = system.UID
	}
	if from == 1 {
		return h, func(func(archive.Object) bool) {}, nil
	}
	before, err := s.Log.Get(ctx, from-1)
	if err != nil {
		return h, nil, fmt.Errorf("cannot read the event before the archive's first: %w", err)
	}
	h.Before = before.Chain
	state, err := s.Reader.StateAt(ctx, from-1)
	if err != nil {
		return h, nil, fmt.Errorf("cannot tell how the cluster was before event %d: %w", from, err)
	}
	objects = all(state.View())
	snapshot := archive.Summarize(objects)
	h.Snapshot = &snapshot
	return h, objects, nil
}

// whole checks a range, and widens it to whole decisions.
func (s Source) whole(from, to, folded uint64) (uint64, uint64, error) {
	switch {
	case folded == 0:
		return 0, 0, history.ErrEmpty
	case to > folded:
		return 0, 0, fmt.Errorf("there is no event %d yet: the log ends at %d", to, folded)
	case from > to:
		return 0, 0, fmt.Errorf("an archive from event %d to %d would be empty: give a range that goes forward", from, to)
	}
	goesOn := func(sequence uint64) (bool, error) {
		e, err := s.Reader.Event(sequence)
		return e.More, err
	}
	for ; from > 1; from-- {
		if more, err := goesOn(from - 1); err != nil || !more {
			if err != nil {
				return 0, 0, err
			}
			break
		}
	}
	for ; ; to++ {
		if more, err := goesOn(to); err != nil || !more {
			return from, to, err
		}
	}
}

// all yields the objects of a state in their order.
func all(r projections.Reader) iter.Seq[archive.Object] {
	return func(yield func(archive.Object) bool) {
		for resource := range r.Resources() {
			for e := range r.List(resource.Group, resource.Resource, "") {
				if !yield(archive.Object{Ref: e.Ref, UID: e.UID, Created: e.Created, Sequence: e.Sequence, Version: e.Version, Raw: e.Raw}) {
					return
				}
			}
		}
	}
}

// events copies the events from the log.
func (s Source) events(ctx context.Context, a *archive.Writer, h archive.Header) error {
	reader, err := s.Log.Follow(ctx, h.From)
	if err != nil {
		return err
	}
	defer reader.Close()
	for next := h.From; next <= h.To; {
		batch, err := reader.Next(ctx)
		if err != nil {
			return fmt.Errorf("cannot read the log after event %d: %w", next-1, err)
		}
		batch = batch[:min(uint64(len(batch)), h.To-next+1)]
		if err := a.Append(batch); err != nil {
			return forPeople(err, h.From)
		}
		next += uint64(len(batch))
	}
	return nil
}

// forPeople says what to do about a log that is not what was appended.
func forPeople(err error, from uint64) error {
	var broken *events.ChainError
	if !errors.As(err, &broken) {
		return err
	}
	if broken.Sequence > from {
		return fmt.Errorf("nothing was exported, because %w; what is before can be exported with --to @%d", err, broken.Sequence-1)
	}
	return fmt.Errorf("nothing was exported, because %w", err)
}
