package archivist

import (
	"context"
	"fmt"
	"iter"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/projections"
)

// Store is an empty durable projection that takes what is in an archive.
type Store interface {
	// Begin lets it begin in the middle of a log, with the objects as they were
	// then.
	Begin(sequence uint64, chain [32]byte, objects iter.Seq2[*projections.Entry, error]) error
	// Fill stores whole decisions and what came of them, for good once Filled has
	// returned.
	Fill(batch []events.Event, outcomes []projections.Outcome) error
	Filled() error
}

// Load folds an archive into a store and returns the state at its end. If it fails
// with an *archive.DamageError, the store has all decisions up to the last whole one
// before the damage, and so has the state. each, which may be nil, is given the
// events; it may end it with an error.
func Load(ctx context.Context, a *archive.Reader, store Store, each func([]events.Event) error) (*projections.State, error) {
	b, err := begin(ctx, a, store)
	if err != nil {
		return projections.NewState(), err
	}
	err = load(ctx, a, b, store, each)
	// What lies before damage is kept.
	if failed := store.Filled(); failed != nil {
		err = failed
	}
	return b.State(), err
}

// begin returns a builder that has the objects with which an archive begins, as the
// store then has.
func begin(ctx context.Context, a *archive.Reader, store Store) (*projections.Builder, error) {
	h := a.Header()
	if h.From <= 1 {
		return projections.NewBuilder(nil, 0), nil
	}
	var all []*projections.Entry
	var damage error
	err := store.Begin(h.From-1, h.Before, func(yield func(*projections.Entry, error) bool) {
		for o, err := range a.Objects() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				damage = err
				yield(nil, err)
				return
			}
			e := projections.NewEntry(o.Ref, o.UID, o.Created, o.Sequence, o.Raw)
			e.Version = o.Version
			all = append(all, e)
			if !yield(e, nil) {
				return
			}
		}
	})
	if damage != nil {
		return nil, damage
	}
	if err != nil {
		return nil, fmt.Errorf("cannot keep the archive's snapshot: %w", err)
	}
	return projections.NewBuilder(all, h.From-1), nil
}

func load(ctx context.Context, a *archive.Reader, b *projections.Builder, store Store, each func([]events.Event) error) error {
	for batch, err := range a.Batches() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		outcomes, err := b.Fold(batch)
		if err != nil {
			return fmt.Errorf("the archive's events cannot be folded: %w", err)
		}
		if err := store.Fill(batch, outcomes); err != nil {
			return err
		}
		if each == nil {
			continue
		}
		if err := each(batch); err != nil {
			return err
		}
	}
	return nil
}
