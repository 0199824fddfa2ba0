package hollow

import (
	"fmt"
	"strings"
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"
)

// TestTimeline turns time by hand, as a simulation does.
func TestTimeline(t *testing.T) {
	start := time.Unix(0, 0)
	clock := testingclock.NewFakeClock(start)
	l := NewTimeline(clock)
	var got []string
	note := func(name string) func() {
		return func() { got = append(got, fmt.Sprintf("%s@%s", name, clock.Now().Sub(start))) }
	}
	l.after(3*time.Second, note("c"))
	l.after(time.Second, note("a"))
	never := l.after(2*time.Second, note("never"))
	l.after(time.Second, note("b"))
	l.after(time.Second, func() { l.after(time.Second, note("later")) })
	l.cancel(never)
	l.cancel(never)
	for next := l.Advance(clock.Now()); !next.IsZero(); next = l.Advance(clock.Now()) {
		clock.SetTime(next)
	}
	if want := "a@1s b@1s later@2s c@3s"; strings.Join(got, " ") != want {
		t.Errorf("happened has %v, want %s", got, want)
	}
}
