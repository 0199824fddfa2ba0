package main

import (
	"fmt"
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
	all := func(yield func(events.DeadLetter, error) bool) {
		for _, l := range []events.DeadLetter{letter("a", 1), letter("b", 1), letter("a", 2), letter("a", 1)} {
			if !yield(l, nil) {
				return
			}
		}
	}
	for _, c := range []struct {
		named map[uint64]bool
		want  string
	}{{nil, "[a1 b1 a2]"}, {map[uint64]bool{2: true}, "[a2]"}} {
		var got []string
		for l := range onceEach(all, c.named) {
			got = append(got, fmt.Sprint(l.Delivery, l.Event.Sequence))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("with %v named they are %v", c.named, got)
		}
	}
}
