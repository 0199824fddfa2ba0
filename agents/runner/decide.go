package runner

import (
	"encoding/json"
	"fmt"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Update is the decision that turns an object into after, expecting it as the
// decider saw it. It says false if that changes nothing.
func Update(e *projections.Entry, typ string, after any, because uint64) (events.Decision, bool) {
	patch, err := events.Diff(e.Raw, mustCanonical(after))
	if err != nil {
		panic(fmt.Sprintf("%s at sequence %d cannot be compared: %v", e.Ref, e.Sequence, err))
	}
	if patch == nil {
		return events.Decision{}, false
	}
	return events.Decision{
		Because: because,
		Changes: []events.Change{{Type: typ, Object: e.Ref, UID: e.UID, Data: patch}},
		Expect:  []events.Expectation{{Object: e.Ref, Sequence: e.Sequence}},
	}, true
}

// Removal is the decision that an object is gone for good, past its finalizers.
func Removal(e *projections.Entry, typ string, because uint64) events.Decision {
	return events.Decision{
		Because: because,
		Changes: []events.Change{{Type: typ, Object: e.Ref, UID: e.UID, Data: events.Removal()}},
		Expect:  []events.Expectation{{Object: e.Ref, Sequence: e.Sequence}},
	}
}

// Creation is the command to create an object: a typed one with its apiVersion
// and kind set.
func Creation(ref events.Ref, o any, because uint64) Command {
	return Command{Verb: Create, Object: ref, Because: because, Body: mustCanonical(o)}
}

// mustCanonical encodes a typed object. The types of the Kubernetes API always
// encode, so a failure is a bug in the decider.
func mustCanonical(o any) []byte {
	raw, err := json.Marshal(o)
	if err == nil {
		raw, err = events.Canonical(raw)
	}
	if err != nil {
		panic(fmt.Sprintf("cannot encode %T: %v", o, err))
	}
	return raw
}
