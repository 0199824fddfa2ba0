package status

import (
	"encoding/json"
	"fmt"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Decide makes one decision of the facts about a pod: they were observed together.
// It has no changes if the facts change nothing.
func Decide(e *projections.Entry, steps []Step) (events.Decision, error) {
	d := events.Decision{Because: e.Sequence, Expect: []events.Expectation{{Object: e.Ref, Sequence: e.Sequence}}}
	before := events.Lookup(e.Raw, "status")
	for _, s := range steps {
		after, err := json.Marshal(s.Status)
		if err == nil {
			after, err = events.Canonical(after)
		}
		if err != nil {
			return d, fmt.Errorf("cannot encode the status of %s: %w", e.Ref, err)
		}
		patch, err := Patch(before, after)
		if err != nil {
			return d, err
		}
		if patch == nil {
			continue
		}
		d.Changes = append(d.Changes, events.Change{Type: s.Type, Object: e.Ref, UID: e.UID, Data: patch, Note: s.Note})
		before = after
	}
	return d, nil
}

// Removal is the decision that nothing is left of a pod that is to be deleted.
func Removal(e *projections.Entry) events.Decision {
	return events.Decision{
		Because: e.Sequence,
		Changes: []events.Change{{Type: "pod.removed", Object: e.Ref, UID: e.UID, Data: events.Removal()}},
		Expect:  []events.Expectation{{Object: e.Ref, Sequence: e.Sequence}},
	}
}

// Patch is the patch of an object whose status changes, given both in canonical
// form; before is nil if it has none. It is nil if nothing changes.
func Patch(before, after []byte) ([]byte, error) {
	if before == nil {
		return events.AppendPatch(nil, []events.Op{{Op: "add", Path: "/status", Value: after}}), nil
	}
	patch, err := events.Diff(wrap(before), wrap(after))
	if err != nil {
		return nil, fmt.Errorf("cannot compare two statuses: %w", err)
	}
	return patch, nil
}

func wrap(status []byte) []byte {
	return append(append([]byte(`{"status":`), status...), '}')
}
