package jetstream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

// TestSubscribersInOrder acknowledges several events at once. A second connection
// takes the place of the first and begins with the first event that is not done.
func TestSubscribersInOrder(t *testing.T) {
	w := newWorld(t)
	w.addAs("billing", func(s *events.Subscriber) { s.InOrder = true }, inShop)
	w.happen("pods/shop/a created", "pods/shop/a bound", "pods/shop/a ready", "pods/shop/b created", "pods/shop/b bound")
	first := w.connect("billing")
	if got := fetch(t, first, "billing", 2, 2, false); fmt.Sprint(got) != "[1 2]" {
		t.Errorf("the first two are %v", got)
	}
	if got := fetch(t, first, "billing", 1, 1, true); fmt.Sprint(got) != "[3]" {
		t.Errorf("the third is %v", got)
	}
	if got := fetch(t, first, "billing", 1, 1, false); fmt.Sprint(got) != "[4]" {
		t.Errorf("the fourth is %v", got)
	}
	closed := first.StatusChanged(nats.CLOSED)
	second := w.connect("billing")
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the first connection lives on beside the second")
	}
	if got := fetch(t, second, "billing", 2, 9, true); fmt.Sprint(got) != "[4 5]" {
		t.Errorf("the second connection gets %v", got)
	}
	w.restart()
	w.happen("pods/shop/c created")
	if got := fetch(t, w.connect("billing"), "billing", 1, 9, true); fmt.Sprint(got) != "[6]" {
		t.Errorf("after a restart comes %v", got)
	}
	all, err := w.subscribers.List(t.Context())
	must(t, err)
	if !all[0].InOrder || all[0].Done != 6 || all[0].Unacknowledged != 0 {
		t.Errorf("the list is %+v", all)
	}
}
