package history

import (
	"fmt"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Told is an event with what it changed, as people read it. An event that makes
// an object or ends it has no lines: all of it is new, or gone.
type Told struct {
	Event   events.Event
	Changes []Line
}

// describe says what an event changed of the version before it, which is nil for
// a creation.
func describe(before *projections.Entry, e *events.Event) ([]Line, error) {
	if whole(e) {
		return nil, nil
	}
	if before == nil {
		return nil, fmt.Errorf("%s changed at sequence %d and was not there before: the log is damaged", e.Object, e.Sequence)
	}
	after, err := events.Apply(before.Raw, e.Data)
	if err != nil {
		return nil, fmt.Errorf("the change at sequence %d does not fit %s: %w", e.Sequence, e.Object, err)
	}
	return Compare(before.Raw, after)
}

// whole says whether an event is about all of its object, or, being one that this
// program may skip, about nothing that it knows.
func whole(e *events.Event) bool {
	if _, known := events.EffectOf(e.Type, e.Object); !known {
		return true
	}
	return len(e.Data) == 0 || e.Data[0] != '[' || events.IsRemoval(e.Data)
}

// Tell describes an event by the version before it.
func Tell(r Reader, e events.Event) (Told, error) {
	told := Told{Event: e}
	if whole(&e) {
		return told, nil
	}
	before, err := r.At(e.Object, e.Sequence-1)
	if err != nil {
		return told, err
	}
	told.Changes, err = describe(before, &e)
	return told, err
}
