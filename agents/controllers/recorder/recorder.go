// Package recorder tells people what happened in the words they know: it turns
// facts of the log into the Kubernetes Event objects that kubectl describe and
// kubectl get events show. The server runs it.
//
// A note is about one fact, and says which in an annotation, so that it leads to
// the history, which is kept for ever while the notes are not. Facts of before
// the recorder started are not told again. What it misses meanwhile is missing
// from the notes only; it never keeps anybody waiting.
package recorder

import (
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Controller is the runner.Decider.
type Controller struct{}

// New returns the recorder.
func New() Controller { return Controller{} }

// Actor is controller:recorder.
func (Controller) Actor() events.Actor { return events.Actor{Kind: "controller", Name: "recorder"} }

// gather is for how long a note waits for others. Notes are read by people, hours
// later, and an append of one costs nearly as much as one of a hundred.
const gather = 250 * time.Millisecond

// Gather is runner.Patient's.
func (Controller) Gather() time.Duration { return gather }

// Concerns names a work item for each note that the change is worth. The note is
// in the item's name: a view does not tell how an object stood before.
func (Controller) Concerns(v runner.View, c projections.Change) []events.Ref {
	if c.Event.Type == "" || events.Volatile(c.Event.Object) {
		return nil // an object that was there at the start, or a note
	}
	var items []events.Ref
	for _, n := range notesOf(v, c) {
		if item, ok := n.item(); ok {
			items = append(items, item)
		}
	}
	return items
}

// Decide puts the note of an item, or counts it once more if it was put before.
func (Controller) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	n, ok := parseItem(item)
	if !ok || v.Volatile == nil {
		return runner.Result{}
	}
	d, changed := n.decision(v.Volatile, now)
	if !changed {
		return runner.Result{}
	}
	return runner.Result{Decisions: []events.Decision{d}}
}
