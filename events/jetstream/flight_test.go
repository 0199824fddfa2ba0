package jetstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

// What was acknowledged is waited for by who reads it, also after it has failed in flight.
func TestWhatIsTornIsNotSaidToBeMissing(t *testing.T) {
	l := openNew(t)
	l.patient = 100 * time.Millisecond
	release := delay(t, l)
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	for torn := false; !torn; {
		l.own.mu.Lock()
		torn = l.own.troubled()
		l.own.mu.Unlock()
	}
	hasty, cancel := context.WithTimeout(t.Context(), 2*l.patient)
	defer cancel()
	if _, err := l.Get(hasty, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what was acknowledged is read with %v", err)
	}
	if _, err := l.Get(t.Context(), 4); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("what was not appended is read with %v", err)
	}
	release(func(*nats.Msg) bool { return false })
	r, err := l.Follow(t.Context(), 4)
	if err != nil {
		t.Fatalf("behind what was acknowledged nobody can follow: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	expectLog(t, l, all)
}
