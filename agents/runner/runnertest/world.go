package runnertest

import (
	"iter"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/schemas"
)

// world is one log's state, with the log's end.
type world struct{ state *projections.State }

func newWorld() world { return world{projections.NewState()} }

// copy returns the same objects in a state of their own; fresh ones have not
// been decoded by anybody.
func (w world) copy(fresh bool) world {
	c := newWorld()
	for e := range w.all() {
		if fresh {
			e = projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, e.Raw)
		}
		c.state.Put(e)
	}
	c.state.StartAt(w.state.Sequence())
	return c
}

func (w world) all() iter.Seq[*projections.Entry] {
	return func(yield func(*projections.Entry) bool) {
		view := w.state.View()
		for r := range view.Resources() {
			for e := range view.List(r.Group, r.Resource, "") {
				if !yield(e) {
					return
				}
			}
		}
	}
}

func (w world) get(ref events.Ref) *projections.Entry { return w.state.View().Get(ref) }

// fold gives the event its place, holds it against its schema, and folds it.
func (w world) fold(ev events.Event) (projections.Change, error) {
	ev.Sequence = w.state.Sequence() + 1
	if err := schemas.Check(&ev); err != nil {
		return projections.Change{}, err
	}
	changes, err := w.state.Fold([]events.Event{ev})
	if err != nil {
		return projections.Change{}, err
	}
	return changes[0], nil
}
