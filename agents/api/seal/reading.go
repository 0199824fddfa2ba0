package seal

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// Reading returns a projection that shows the objects of another one with their
// values, for controllers in this process. An object whose key is gone has none.
func (k *Keeper) Reading(p live.Projection) live.Projection { return reading{p, k.entry} }

// Feeding is Reading for nodes, to which an object whose key is gone is gone too:
// what they have made of it stays as it is, as when it is deleted, and is not
// overwritten by nothing.
func (k *Keeper) Feeding(p live.Projection) live.Projection { return reading{p, k.fed} }

type show func(*projections.Entry) *projections.Entry

type reading struct {
	live.Projection
	show show
}

// View implements live.Projection.
func (r reading) View() projections.Reader { return openView{r.Projection.View(), r.show} }

// Changes implements live.Projection.
func (r reading) Changes(ctx context.Context, after uint64) (live.Changes, error) {
	c, err := r.Projection.Changes(ctx, after)
	return openChanges{c, r.show}, err
}

type openChanges struct {
	live.Changes
	show show
}

// Next implements live.Changes.
func (c openChanges) Next(ctx context.Context) ([]projections.Change, error) {
	batch, err := c.Changes.Next(ctx)
	batch = slices.Clone(batch) // Others are given the same.
	for i := range batch {
		if r := batch[i].Event.Object; !sealable(r.Group, r.Resource) {
			continue
		}
		batch[i].Before, batch[i].After = c.show(batch[i].Before), c.show(batch[i].After)
	}
	return batch, err
}

type openView struct {
	projections.Reader
	show show
}

// Get implements projections.Reader.
func (v openView) Get(r events.Ref) *projections.Entry { return v.show(v.Reader.Get(r)) }

// List implements projections.Reader.
func (v openView) List(group, resource, namespace string) iter.Seq[*projections.Entry] {
	all := v.Reader.List(group, resource, namespace)
	if !sealable(group, resource) {
		return all
	}
	return func(yield func(*projections.Entry) bool) {
		for e := range all {
			if e = v.show(e); e != nil && !yield(e) {
				return
			}
		}
	}
}

// Trace implements projections.Traced, as far as what it reads does: pods and nodes are
// not sealed.
func (v openView) Trace() *projections.Trace {
	if t, ok := v.Reader.(projections.Traced); ok {
		return t.Trace()
	}
	return nil
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
	return blank(e.Ref, e.Raw, Unreadable, unreadableText)
}

// entry is an entry with its values.
func (k *Keeper) entry(e *projections.Entry) *projections.Entry {
	if !mayBeSealed(e) {
		return e
	}
	doc, err := k.RevealEntry(e)
	if err != nil {
		return e
	}
	return withDocument(e, doc)
}

// fed is an entry with its values, nil if they cannot be read.
func (k *Keeper) fed(e *projections.Entry) *projections.Entry {
	if !mayBeSealed(e) {
		return e
	}
	doc, err := k.Open(context.Background(), e.Ref, e.UID, e.Raw)
	if err != nil {
		if !errors.Is(err, ErrErased) {
			k.log.Error("an object cannot be decrypted; nodes keep what they have of it", "object", e.Ref.String(), "error", err)
		}
		return nil
	}
	return withDocument(e, doc)
}

func mayBeSealed(e *projections.Entry) bool {
	return e != nil && sealable(e.Ref.Group, e.Ref.Resource) && hasSealed(e.Raw)
}

func withDocument(e *projections.Entry, doc []byte) *projections.Entry {
	opened := projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, doc)
	opened.Version = e.Version
	return opened
}
