package events_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/reprise-run/reprise/events"
)

func scaled(data string) events.Proposal {
	return events.Proposal{
		Actor: events.Actor{Kind: "api"},
		Decision: events.Decision{Changes: []events.Change{{
			Type: "deployment.scaled", Object: events.Ref{Group: "apps", Resource: "deployments", Namespace: "shop", Name: "web"}, Data: []byte(data),
		}}},
	}
}

// What was found out about an event holds for the bytes that it was found of, and for
// the version that it was tried on.
func TestJudged(t *testing.T) {
	p := scaled(`[{"op":"replace","path":"/spec/replicas","value":5}]`)
	e, err := p.Event(0)
	if err != nil {
		t.Fatal(err)
	}
	effect, ops, ok := e.Judged()
	if !ok || effect != events.Changes || len(ops) != 1 || ops[0].Path != "/spec/replicas" {
		t.Fatalf("got %v, %v, %v", effect, ops, ok)
	}
	three, seven := []byte(`{"spec":{"replicas":3}}`), []byte(`{"spec":{"replicas":7},"status":{}}`)
	var tried events.Outline
	after, err := e.Try(three, 11, &tried, ops)
	if err != nil || string(after) != `{"spec":{"replicas":5}}` {
		t.Fatalf("got %s, %v", after, err)
	}
	var o events.Outline
	again, err := e.Apply(three, 11, &o, ops)
	if err != nil || &again[0] != &after[0] || o != tried {
		t.Errorf("the same version is changed again: %s, %v", again, err)
	}
	o = events.Outline{}
	if other, err := e.Apply(seven, 12, &o, ops); err != nil || string(other) != `{"spec":{"replicas":5},"status":{}}` {
		t.Errorf("of another version comes %s, %v", other, err)
	}
	if _, err := e.Apply([]byte(`{}`), 12, &o, ops); err == nil {
		t.Error("it applies where it does not")
	}
	for name, alter := range map[string]func(*events.Event){
		"forgotten": (*events.Event).Forget,
		"altered":   func(e *events.Event) { e.Data = []byte(string(e.Data)) },
		"shortened": func(e *events.Event) { e.Data = e.Data[:10] },
		"read": func(e *events.Event) {
			raw, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			*e = events.Event{}
			if err := json.Unmarshal(raw, e); err != nil {
				t.Fatal(err)
			}
		},
	} {
		e := e
		if alter(&e); e.Type != "" {
			if _, _, ok := e.Judged(); ok {
				t.Errorf("an event that was %s is taken as judged", name)
			}
		}
	}
}

func TestEventRefuses(t *testing.T) {
	var refused *events.RefusedError
	outside := scaled(`[{"op":"replace","path":"/spec/paused","value":true}]`)
	if _, err := outside.Event(0); !errors.As(err, &refused) {
		t.Errorf("a path outside of the type's: %v", err)
	}
}

// The gate's word that a document is canonical counts for the bytes that it gave it
// of, and for no others.
func TestCanonicalByCommand(t *testing.T) {
	ref := events.Ref{Resource: "configmaps", Namespace: "shop", Name: "web"}
	c, _, err := events.Command(ref, "u", nil, []byte(`{"kind":"ConfigMap", "data":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	check := func(c events.Change) error { return events.Check(c, events.Actor{Kind: "api"}) }
	if err := check(c); err != nil {
		t.Errorf("what the gate wrote: %v", err)
	}
	odd := c
	odd.Data = []byte(`{"kind":"ConfigMap", "data":{}}`)
	if check(odd) == nil {
		t.Error("the word counts for other bytes")
	}
	shorter := c
	shorter.Data = c.Data[:len(c.Data)-1]
	if check(shorter) == nil {
		t.Error("the word counts for a part")
	}
}

// What was linked here is known to be what was linked, and to follow one chain only.
func TestLinkedHere(t *testing.T) {
	p := scaled(`[{"op":"replace","path":"/spec/replicas","value":5}]`)
	linked := func() []events.Event {
		e, err := p.Event(0)
		if err != nil {
			t.Fatal(err)
		}
		e.Sequence = 8
		e.Chain = events.Link([32]byte{7}, &e)
		return []events.Event{e}
	}
	all := linked()
	if chain, err := events.VerifyChain(7, [32]byte{7}, all); err != nil || chain != all[0].Chain {
		t.Errorf("what was linked has the chain %x, %v; want %x", chain, err, all[0].Chain)
	}
	if _, err := events.VerifyChain(7, [32]byte{6}, all); err == nil {
		t.Error("it is taken behind another chain")
	}
	if _, err := events.VerifyChain(6, [32]byte{7}, all); err == nil {
		t.Error("it is taken behind another event")
	}
	for name, alter := range map[string]func(*events.Event){
		"altered":           func(e *events.Event) { e.Data = []byte(`[]`) },
		"given a chain":     func(e *events.Event) { e.Chain[31]++ },
		"given none":        func(e *events.Event) { e.Chain = [32]byte{} },
		"altered elsewhere": func(e *events.Event) { e.Forget(); e.User = "mallory" },
	} {
		all := linked()
		alter(&all[0])
		if _, err := events.VerifyChain(7, [32]byte{7}, all); err == nil {
			t.Errorf("an event that was %s is taken as linked", name)
		}
	}
	same := linked()
	same[0].Forget()
	if _, err := events.VerifyChain(7, [32]byte{7}, same); err != nil {
		t.Errorf("where it is not known that it was linked: %v", err)
	}
}
