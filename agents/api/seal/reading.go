package seal

import (
	"context"
	"iter"
	"slices"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// Reading returns a projection that shows the objects of another one with their
// values, for those in this process who need them: the feed of the nodes, and
// controllers. An object whose key is gone has none.
func (k *Keeper) Reading(p live.Projection) live.Projection { return reading{p, k} }

type reading struct {
	live.Projection
	keeper *Keeper
}

// View implements live.Projection.
func (r reading) View() projections.Reader { return openView{r.Projection.View(), r.keeper} }

// Changes implements live.Projection.
func (r reading) Changes(ctx context.Context, after uint64) (live.Changes, error) {
	c, err := r.Projection.Changes(ctx, after)
	return openChanges{c, r.keeper}, err
}

type openChanges struct {
	live.Changes
	keeper *Keeper
}

// Next implements live.Changes.
func (c openChanges) Next(ctx context.Context) ([]projections.Change, error) {
	batch, err := c.Changes.Next(ctx)
	batch = slices.Clone(batch) // Others are given the same.
	for i := range batch {
		if sealable(batch[i].Event.Object.Group, batch[i].Event.Object.Resource) {
			batch[i].Before, batch[i].After = c.keeper.entry(batch[i].Before), c.keeper.entry(batch[i].After)
		}
	}
	return batch, err
}

type openView struct {
	projections.Reader
	keeper *Keeper
}

// Get implements projections.Reader.
func (v openView) Get(r events.Ref) *projections.Entry { return v.keeper.entry(v.Reader.Get(r)) }

// List implements projections.Reader.
func (v openView) List(group, resource, namespace string) iter.Seq[*projections.Entry] {
	all := v.Reader.List(group, resource, namespace)
	if !sealable(group, resource) {
		return all
	}
	return func(yield func(*projections.Entry) bool) {
		for e := range all {
			if !yield(v.keeper.entry(e)) {
				return
			}
		}
	}
}

// RevealEntry is Reveal for an entry. One that cannot be opened is shown without
// values, so that it does not keep others in a list from being seen, and the log of
// the program says why.
func (k *Keeper) RevealEntry(e *projections.Entry) ([]byte, error) {
	doc, err := k.Reveal(context.Background(), e.Ref, e.UID, e.Raw)
	if err == nil {
		return doc, nil
	}
	k.log.Error("an object cannot be decrypted; it is shown without its values", "object", e.Ref.String(), "error", err)
	return blank(e.Ref, e.Raw)
}

// entry is an entry with its values.
func (k *Keeper) entry(e *projections.Entry) *projections.Entry {
	if e == nil || !sealable(e.Ref.Group, e.Ref.Resource) || !hasSealed(e.Raw) {
		return e
	}
	doc, err := k.RevealEntry(e)
	if err != nil {
		return e
	}
	opened := projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, doc)
	opened.Version = e.Version
	return opened
}
