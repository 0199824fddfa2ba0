package main

import (
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/events"
)

// written makes a log of decisions, and a ledger of the clients that proposed them.
func written(t *testing.T, decisions ...[]string) (*ledger, []*decision, []events.Event) {
	t.Helper()
	book := newLedger(false)
	var all []*decision
	var log []events.Event
	var chain [32]byte
	for i, names := range decisions {
		var changes []events.Change
		for _, name := range names {
			changes = append(changes, events.Change{Type: "configmap.created", Object: events.Ref{Resource: "configmaps", Name: name}, Data: []byte(`{}`)})
		}
		d := book.open(strings.Repeat("x", i+1), changes)
		all = append(all, d)
		for i, c := range d.changes {
			e := events.Event{Sequence: uint64(len(log)) + 1, Type: c.Type, Object: c.Object, Data: c.Data, Note: c.Note, More: i < len(d.changes)-1}
			chain = events.Link(chain, &e)
			e.Chain = chain
			log = append(log, e)
		}
	}
	return book, all, log
}

// The torture is worth what its ledger finds.
func TestLedger(t *testing.T) {
	receipt := events.Receipt{First: 2, Last: 3}
	for _, c := range []struct {
		name, want string
		log        func([]events.Event) []events.Event
		answer     error
	}{
		{name: "whole", log: func(l []events.Event) []events.Event { return l }},
		{name: "lost", want: "LOST", log: func(l []events.Event) []events.Event { return l[:1] }},
		{name: "half", want: "HALF", log: func(l []events.Event) []events.Event { return l[:2] }},
		{name: "no answer, absent", log: func(l []events.Event) []events.Event { return l[:1] }, answer: events.ErrUncertain},
		{name: "no answer, whole", log: func(l []events.Event) []events.Event { return l }, answer: events.ErrUncertain},
		{name: "no answer, half", want: "HALF", log: func(l []events.Event) []events.Event { return l[:2] }, answer: events.ErrUncertain},
		{name: "denied, there", want: "was answered", log: func(l []events.Event) []events.Event { return l }, answer: events.ErrUnavailable},
		{name: "denied, absent", log: func(l []events.Event) []events.Event { return l[:1] }, answer: events.ErrUnavailable},
		{name: "other content", want: "damaged", log: func(l []events.Event) []events.Event { l[2].Data = []byte(`{"a":1}`); return l }},
	} {
		t.Run(c.name, func(t *testing.T) {
			book, all, log := written(t, []string{"a"}, []string{"b", "c"})
			book.close(all[0], events.Receipt{First: 1, Last: 1}, nil)
			book.close(all[1], receipt, c.answer)
			err := book.check(c.log(log))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("found %v, and should have %q", err, c.want)
			}
		})
	}
}

// What a reader was told after a fault is certain from then on.
func TestLedgerRemembersReadings(t *testing.T) {
	book, all, log := written(t, []string{"a"}, []string{"b"})
	book.close(all[0], events.Receipt{First: 1, Last: 1}, nil)
	book.close(all[1], events.Receipt{}, events.ErrUncertain)
	if err := book.check(log); err != nil {
		t.Fatal(err)
	}
	if err := book.check(log[:1]); err == nil || !strings.Contains(err.Error(), "LOST") {
		t.Fatalf("found %v", err)
	}
}

// The clients of the API forget nothing either.
func TestRegistry(t *testing.T) {
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, "a")
	book := newRegistry()
	write := func(content, version string, err error) {
		book.begin("a", content)
		book.end("a", content, version, err)
	}
	sees := func(content, version string) error { return book.check(map[string]object{"a": {content, version}}) }
	write("one", "1", nil)
	if err := sees("one", "1"); err != nil {
		t.Error(err)
	}
	write("two", "", missing)
	if err := sees("two", "2"); err == nil {
		t.Error("what was denied may be there")
	}
	write("three", "", errors.New("EOF"))
	if err := sees("one", "2"); err == nil {
		t.Error("a version may change by itself")
	}
	if err := sees("three", "3"); err != nil {
		t.Error(err)
	}
	if err := sees("one", "1"); err == nil {
		t.Error("what was read may be taken back")
	}
	write(absent, "", nil)
	if err := sees("three", "3"); err == nil {
		t.Error("what was removed may come back")
	}
	if err := book.check(map[string]object{"b": {"x", "9"}}); err == nil {
		t.Error("something may come from nowhere")
	}
}
