package status

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Decide makes one decision of the facts about a pod, of which a status was reported
// before: they were observed together. It has no changes if the facts change nothing.
func Decide(e *projections.Entry, reported v1.PodStatus, steps []Step) (events.Decision, error) {
	d := events.Decision{Because: e.Sequence, Expect: []events.Expectation{{Object: e.Ref, Sequence: e.Sequence}}}
	said := newDocument(&reported, e.Lookup("status"))
	defer said.done()
	for i := range steps {
		s := &steps[i]
		patch, err := said.become(&s.Status)
		if err != nil {
			return d, fmt.Errorf("cannot encode the status of %s: %w", e.Ref, err)
		}
		if patch != nil {
			d.Changes = append(d.Changes, events.Change{Type: s.Type, Object: e.Ref, UID: e.UID, Data: patch, Note: s.Note})
		}
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
