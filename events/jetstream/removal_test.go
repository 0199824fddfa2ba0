package jetstream_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// TestRemovalsAreFinished cuts a removal short, right after it is known, and has the
// next call or start do the rest.
func TestRemovalsAreFinished(t *testing.T) {
	w := newWorld(t)
	w.happen("pods/shop/a created", "pods/shop/a bound")
	stream := func() natsjs.Stream {
		js, err := natsjs.New(connect(t, w.server))
		must(t, err)
		s, err := js.Stream(t.Context(), "REPRISE")
		must(t, err)
		return s
	}
	for name, finish := range map[string]func(){
		"start": w.restart,
		"call":  func() { must(t, w.subscribers.Remove(t.Context(), "call")) },
		"name":  func() {},
	} {
		w.add(name, inShop)
		if got := fetch(t, w.connect(name), name, 1, 1, true); fmt.Sprint(got) != "[1]" {
			t.Errorf("%s reads %v", name, got)
		}
		must(t, jetstream.HalfRemove(t.Context(), w.subscribers, name))
		finish()
		if name == "name" {
			w.add(name, inShop) // as if it had gone
			if got := fetch(t, w.connect(name), name, 2, 2, true); fmt.Sprint(got) != "[1 2]" {
				t.Errorf("one who comes to have its name reads %v", got)
			}
			continue
		}
		if _, err := w.dial(name); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s is let in: %v", name, err)
		}
		if _, err := stream().Consumer(t.Context(), name); !errors.Is(err, natsjs.ErrConsumerNotFound) {
			t.Errorf("the consumer of %s: %v", name, err)
		}
		if err := w.subscribers.Remove(t.Context(), name); !errors.Is(err, events.ErrNoSubscriber) {
			t.Errorf("%s is still known: %v", name, err)
		}
	}
}
