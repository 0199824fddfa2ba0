package logtest

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func followFrom(t *testing.T, log events.Log) {
	appendAll(t, log, 0, batch(1, 10))
	for from := uint64(1); from <= 10; from++ {
		same(t, read(t, log, from, 10), batch(from, 10))
	}
	for _, from := range []uint64{0, 12} {
		if r, err := log.Follow(t.Context(), from); err == nil {
			r.Close()
			t.Errorf("following from %d of a log that ends at 10 does not fail", from)
		}
	}
}

func followWaits(t *testing.T, log events.Log) {
	appendAll(t, log, 0, batch(1, 2))
	r := follow(t, log, 3)
	got := make(chan []events.Event, 1)
	go func() { got <- readTo(t, r, 6) }()
	appendAll(t, log, 2, batch(3, 3))
	appendAll(t, log, 3, batch(4, 6))
	same(t, <-got, batch(3, 6))
}

func followEnds(t *testing.T, log events.Log) {
	appendAll(t, log, 0, batch(1, 1))
	r := follow(t, log, 2)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { _, err := r.Next(ctx); failed <- err }()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("Next fails with %v when its context is cancelled", err)
	}
	// The reader outlives a cancelled Next.
	appendAll(t, log, 1, batch(2, 2))
	same(t, readTo(t, r, 2), batch(2, 2))
	go func() { _, err := r.Next(t.Context()); failed <- err }()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-failed:
		if err == nil {
			t.Error("Next of a closed reader does not fail")
		}
	case <-time.After(patience):
		t.Fatal("Next goes on waiting when its reader is closed")
	}
	if err := r.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func decisions(t *testing.T, log events.Log) {
	want := batch(1, 12)
	for _, i := range []int{2, 3, 6, 7, 8} { // decisions: 1 2 3-5 6 7-10 11 12
		want[i].More = true
	}
	appendAll(t, log, 0, want[:6])
	appendAll(t, log, 6, want[6:])
	for _, from := range []uint64{1, 3, 7, 11} {
		r := follow(t, log, from)
		for next := from; next <= 12; {
			got, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 || got[len(got)-1].More {
				t.Fatalf("read %d events from %d that do not end at the end of a decision", len(got), next)
			}
			same(t, got, want[next-1:next-1+uint64(len(got))])
			next += uint64(len(got))
		}
	}
}

func manyReaders(t *testing.T, log events.Log) {
	const total = 600
	var wg sync.WaitGroup
	for range 5 {
		r := follow(t, log, 1)
		wg.Go(func() { same(t, readTo(t, r, total), batch(1, total)) })
	}
	for after := uint64(0); after < total; {
		n := min(1+after%37, total-after)
		appendAll(t, log, after, batch(after+1, after+n))
		after += n
	}
	wg.Wait()
}

func ownership(t *testing.T, log events.Log) {
	appendAll(t, log, 0, batch(1, 1))
	got := read(t, log, 1, 1)
	same(t, got, batch(1, 1))
	got[0].Data[0] = 'x'
	same(t, read(t, log, 1, 1), batch(1, 1))
}

func follow(t *testing.T, log events.Log, from uint64) events.Reader {
	t.Helper()
	r, err := log.Follow(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// read returns the events of the log from one sequence to another.
func read(t *testing.T, log events.Log, from, to uint64) []events.Event {
	t.Helper()
	return readTo(t, follow(t, log, from), to)
}

// readTo reads until it has the sequence. It may be called on any goroutine.
func readTo(t *testing.T, r events.Reader, to uint64) []events.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []events.Event
	for len(all) == 0 || all[len(all)-1].Sequence < to {
		got, err := r.Next(ctx)
		if err != nil {
			t.Errorf("reading on after %d events: %v", len(all), err)
			return all
		}
		all = append(all, got...)
	}
	return all
}

func same(t *testing.T, got, want []events.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d events, want %d", len(got), len(want))
		return
	}
	for i := range got {
		g, w := got[i], want[i]
		if w.Sequence == 0 {
			w.Sequence = g.Sequence
		}
		if !reflect.DeepEqual(g, w) {
			t.Errorf("event %d differs; got:\n%swant:\n%s", i, g.Text(), w.Text())
			return
		}
	}
}

// Follower is the part of events.Log that Holds needs.
type Follower interface {
	Follow(ctx context.Context, from uint64) (events.Reader, error)
}

// Holds checks that a log, followed from its first event, has the chain of all that are
// wanted.
func Holds(t testing.TB, log Follower, want []events.Event) {
	t.Helper()
	r, err := log.Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n := 0; n < len(want); {
		got, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			if e.Sequence != uint64(n)+1 || e.Chain != want[n].Chain {
				t.Fatalf("event %d is another", n+1)
			}
			n++
		}
	}
}
