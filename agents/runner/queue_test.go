package runner

import (
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

// An item is looked at once at a time, however often it is marked meanwhile, and no time
// is lost to one that came first.
func TestAnItemHasOneTimer(t *testing.T) {
	q := newQueue(0)
	now := time.Unix(1000, 0)
	pod := events.Ref{Resource: "pods", Namespace: "default", Name: "web"}
	next := func(want bool) *entry {
		t.Helper()
		q.advance(now)
		it := q.next(now)
		if (it != nil) != want {
			t.Fatalf("at %v the item to be decided is %v", now, it)
		}
		return it
	}
	q.mark(pod, 1)
	q.finish(next(true), outcome{retry: true, wake: now.Add(time.Minute)}, now)
	for range 100 {
		q.mark(pod, 2)
		next(false)
	}
	if len(q.timers) != 1 || !q.until(now).Equal(now.Add(firstBackoff)) {
		t.Errorf("%d timers, the first of which rings at %v", len(q.timers), q.until(now))
	}
	now = now.Add(firstBackoff)
	it := next(true)
	q.finish(it, outcome{wake: now.Add(time.Hour)}, now)

	// A back-off ends before the time that it asked for: that is not forgotten.
	q.look(it, now.Add(time.Second))
	now = now.Add(time.Second)
	next(false)
	if len(q.timers) != 1 || !q.until(now).Equal(it.wake) {
		t.Errorf("%d timers, the first of which rings at %v, not at %v", len(q.timers), q.until(now), it.wake)
	}
	now = it.wake
	q.finish(next(true), outcome{}, now)
	if len(q.timers) != 0 || len(q.items) != 0 {
		t.Errorf("there remain %d timers and %d items", len(q.timers), len(q.items))
	}
}
