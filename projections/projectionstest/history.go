// Package projectionstest makes small histories for the tests of projections and
// of those who read them, and holds the contract that every projections.Reader
// must pass. Only tests use it.
package projectionstest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Epoch is the time of the first event of a history.
var Epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// History writes well-formed events one after the other, a second apart, each
// chained to the one before.
type History struct {
	Events []events.Event
	docs   map[events.Ref][]byte
	uids   map[events.Ref]string
	alive  []events.Ref
}

// NewHistory returns an empty one.
func NewHistory() *History {
	return &History{docs: map[events.Ref][]byte{}, uids: map[events.Ref]string{}}
}

// Pod is the reference of a pod.
func Pod(namespace, name string) events.Ref {
	return events.Ref{Resource: "pods", Namespace: namespace, Name: name}
}

// Create adds the creation of an object whose document, without its uid, is
// given. The document must be a JSON object with metadata.
func (h *History) Create(ref events.Ref, doc string) *events.Event {
	uid := fmt.Sprintf("u%d", len(h.Events)+1)
	raw, err := events.Canonical([]byte(doc))
	if err == nil {
		raw, err = events.Apply(raw, []byte(`[{"op":"add","path":"/metadata/uid","value":"`+uid+`"}]`))
	}
	if err != nil {
		panic(err)
	}
	h.docs[ref], h.uids[ref] = raw, uid
	h.alive = append(h.alive, ref)
	return h.add(ref, "created", raw)
}

// Update adds a change of an object.
func (h *History) Update(ref events.Ref, patch string) *events.Event {
	doc, err := events.Apply(h.docs[ref], []byte(patch))
	if err != nil {
		panic(err)
	}
	h.docs[ref] = doc
	return h.add(ref, "updated", []byte(patch))
}

// Delete adds the removal of an object.
func (h *History) Delete(ref events.Ref) *events.Event {
	ev := h.add(ref, "deleted", events.Removal())
	delete(h.docs, ref)
	for i, r := range h.alive {
		if r == ref {
			h.alive = append(h.alive[:i], h.alive[i+1:]...)
			break
		}
	}
	return ev
}

func (h *History) add(ref events.Ref, fact string, data []byte) *events.Event {
	n := uint64(len(h.Events) + 1)
	noun := ref.Resource[:len(ref.Resource)-1]
	h.Events = append(h.Events, events.Event{
		Sequence: n, Type: noun + "." + fact, Object: ref, UID: h.uids[ref],
		Actor: events.Actor{Kind: "api", Version: "test"}, User: "admin", Audit: fmt.Sprintf("audit-%d", n),
		Time: Epoch.Add(time.Duration(n) * time.Second), Data: data,
	})
	h.Seal(len(h.Events) - 1)
	return &h.Events[n-1]
}

// Alive are the objects that there are at the end.
func (h *History) Alive() []events.Ref { return h.alive }

// Seal computes the chain of the events from an index on, after a test has
// changed them.
func (h *History) Seal(from int) {
	for i := from; i < len(h.Events); i++ {
		var prev [32]byte
		if i > 0 {
			prev = h.Events[i-1].Chain
		}
		h.Events[i].Chain = events.Link(prev, &h.Events[i])
	}
}

// Random returns a history of n events over some pods and configmaps, with
// owners, bindings and decisions of several events, the same for the same seed.
func Random(seed uint64, n int) *History {
	h, r := NewHistory(), rand.New(rand.NewPCG(seed, 1))
	for len(h.Events) < n {
		h.random(r)
		last := &h.Events[len(h.Events)-1]
		if len(h.Events) > 1 && r.IntN(3) == 0 {
			last.Cause = 1 + r.Uint64N(last.Sequence-1)
		}
		last.More = r.IntN(5) == 0 && len(h.Events) < n
		h.Seal(len(h.Events) - 1)
	}
	return h
}

func (h *History) random(r *rand.Rand) {
	ref := events.Ref{Resource: []string{"pods", "configmaps"}[r.IntN(2)], Namespace: fmt.Sprintf("ns%d", r.IntN(3)), Name: fmt.Sprintf("o%d", r.IntN(20))}
	if r.IntN(4) == 0 {
		ref = events.Ref{Group: "apps", Resource: "deployments", Namespace: "shop", Name: fmt.Sprintf("d%d", r.IntN(5))}
	}
	_, alive := h.docs[ref]
	switch {
	case !alive:
		owner := ""
		if len(h.alive) > 0 && r.IntN(2) == 0 {
			owner = fmt.Sprintf(`,"ownerReferences":[{"uid":%q,"name":"x"}]`, h.uids[h.alive[r.IntN(len(h.alive))]])
		}
		h.Create(ref, fmt.Sprintf(`{"kind":"X","metadata":{"name":%q,"labels":{"a/b":"1 \"é"}%s},"spec":{"n":[1,2,{"a":null}]},"status":{}}`, ref.Name, owner))
	case r.IntN(6) == 0:
		h.Delete(ref)
	case r.IntN(3) == 0:
		h.Update(ref, fmt.Sprintf(`[{"op":"add","path":"/spec/nodeName","value":"n%d"}]`, r.IntN(3)))
	case r.IntN(3) == 0:
		h.Update(ref, fmt.Sprintf(`[{"op":"add","path":"/metadata/labels/k%d~1x","value":"%d"},{"op":"replace","path":"/spec/n/0","value":%d}]`, r.IntN(9), r.IntN(9), r.IntN(99)))
	case r.IntN(2) == 0:
		h.Update(ref, `[{"op":"add","path":"/spec/n/-","value":{"z":1.50,"a":"ü"}}]`)
	default:
		h.Update(ref, fmt.Sprintf(`[{"op":"replace","path":"/status","value":{"phase":"p%d"}}]`, r.IntN(4)))
	}
}
