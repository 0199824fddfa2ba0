package memlog_test

import (
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/logtest"
	"github.com/reprise-run/reprise/events/memlog"
)

func TestContract(t *testing.T) {
	logtest.Run(t, func(*testing.T) events.Log { return memlog.New() }, nil)
}

func TestForget(t *testing.T) {
	l := memlog.New()
	batch := make([]events.Event, 10)
	if _, err := l.Append(t.Context(), 0, batch); err != nil {
		t.Fatal(err)
	}
	l.Forget(8)
	first, _ := l.First(t.Context())
	last, _ := l.Last(t.Context())
	if first != 8 || last != 10 {
		t.Fatalf("the log goes from %d to %d", first, last)
	}
	r, err := l.Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Next(t.Context())
	if err != nil || len(got) != 3 || got[0].Sequence != 8 {
		t.Fatalf("read %v, %v", got, err)
	}
	l.Forget(100)
	if first, _ := l.First(t.Context()); first != 11 {
		t.Fatalf("an emptied log begins at %d", first)
	}
}
