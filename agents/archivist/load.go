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
	// Commit stores whole decisions and what they changed.
	Commit(batch []events.Event, changes []projections.Change) error
}

// Load folds an archive into a store and returns the state at its end. If it fails
// with an *archive.DamageError, the store has all decisions up to the last whole one
// before the damage, and so has the state. each, which may be nil, is given the
// events; it may end it with an error.
func Load(ctx context.Context, a *archive.Reader, store Store, each func([]events.Event) error) (*projections.State, error) {
	h := a.Header()
	state := projections.NewState()
	if h.From > 1 {
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
				state.Put(e)
				if !yield(e, nil) {
					return
				}
			}
		})
		if damage != nil {
			return state, damage
		}
		if err != nil {
			return state, fmt.Errorf("cannot keep the archive's snapshot: %w", err)
		}
		state.StartAt(h.From - 1)
	}
	for batch, err := range a.Batches() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return state, err
		}
		changes, err := state.Fold(batch)
		if err != nil {
			return state, fmt.Errorf("the archive's events cannot be folded: %w", err)
		}
		if err := store.Commit(batch, changes); err != nil {
			return state, err
		}
		if each == nil {
			continue
		}
		if err := each(batch); err != nil {
			return state, err
		}
	}
	return state, nil
}
