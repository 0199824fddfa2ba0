package main

import (
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// TestNamesOfDeliveries holds the name under which a position is kept: if it changed,
// deliveries would begin anew and leave out what came in between.
func TestNamesOfDeliveries(t *testing.T) {
	r := &receiver{url: "https://example.com/events"}
	q := history.Query{Type: "pod.*", Namespace: "shop"}
	name := r.name(q)
	if name != "to-86c33d5a2e1b" {
		t.Errorf("it is %s", name)
	}
	q.First, q.Since = 812, time.Unix(1, 0)
	if r.name(q) != name {
		t.Error("where a new one begins makes it another delivery")
	}
	q.User = "admin"
	if r.name(q) == name {
		t.Error("another filter makes it the same delivery")
	}
}

func TestDeadLettersAreToldOnce(t *testing.T) {
	letter := func(delivery string, sequence uint64) events.DeadLetter {
		return events.DeadLetter{Delivery: delivery, Event: events.Event{Sequence: sequence}}
	}
	got := onceEach([]events.DeadLetter{letter("a", 1), letter("b", 1), letter("a", 2), letter("a", 1)})
	if len(got) != 3 || got[0].Delivery != "a" || got[1].Delivery != "b" || got[2].Event.Sequence != 2 {
		t.Errorf("%+v", got)
	}
}
