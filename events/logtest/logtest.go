// Package logtest is the contract of events.Log as tests. The tests of every
// implementation call Run, and Holds where they know what a log must have. It also
// has a Faulty log, which misbehaves on request, for the tests of those who write to logs.
package logtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Run checks an implementation. open returns a new, empty log and cleans up
// after it. reopen, which may be nil, closes a log as a crash would and returns
// it as it is found again.
func Run(t *testing.T, open func(t *testing.T) events.Log, reopen func(t *testing.T, log events.Log) events.Log) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, log events.Log)
	}{
		{"an empty log", empty},
		{"events come back as they were appended", roundTrip},
		{"a stale append stores nothing", fence},
		{"one of many rivals wins", rivals},
		{"a batch has a limit", limit},
		{"a cancelled append stores nothing", cancelled},
		{"follow from any sequence", followFrom},
		{"follow waits for what comes", followWaits},
		{"follow ends with its context and when closed", followEnds},
		{"decisions are read whole", decisions},
		{"readers do not disturb each other", manyReaders},
		{"what is read is the reader's own", ownership},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	t.Run("what was acknowledged is there after a crash", func(t *testing.T) {
		if reopen == nil {
			t.Skip("this implementation keeps nothing across processes; pass reopen to Run to test one that does")
		}
		log := open(t)
		want := batch(1, 20)
		appendAll(t, log, 0, want[:5])
		appendAll(t, log, 5, want[5:])
		log = reopen(t, log)
		same(t, read(t, log, 1, 20), want)
		if _, err := log.Append(t.Context(), 5, batch(6, 6)); !errors.Is(err, events.ErrStale) {
			t.Errorf("a stale append after the crash: %v", err)
		}
		appendAll(t, log, 20, batch(21, 21))
		same(t, read(t, log, 21, 21), batch(21, 21))
	})
}

func empty(t *testing.T, log events.Log) {
	ends(t, log, 1, 0)
	for _, sequence := range []uint64{0, 1} {
		if _, err := log.Get(t.Context(), sequence); !errors.Is(err, events.ErrNotFound) {
			t.Errorf("Get(%d) = %v, want ErrNotFound", sequence, err)
		}
	}
	for _, from := range []uint64{0, 2} {
		if r, err := log.Follow(t.Context(), from); err == nil {
			r.Close()
			t.Errorf("following from %d does not fail", from)
		}
	}
	if last, err := log.Append(t.Context(), 0, nil); err != nil || last != 0 {
		t.Errorf("appending nothing: %d, %v", last, err)
	}
}

func roundTrip(t *testing.T, log events.Log) {
	full := events.Event{
		Type: "deployment.scaled", UID: "2d9c1f", User: "system:admin", Audit: "a-1", Cause: 4, Basis: 7,
		Object:   events.Ref{Group: "apps", Resource: "deployments", Namespace: "shop", Name: "web.v1:x"},
		Actor:    events.Actor{Kind: "controller", Name: "deployment", Version: "v0.1.0+x"},
		Time:     time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		Now:      time.Date(2026, 1, 2, 3, 4, 4, 1e6, time.UTC),
		Optional: true,
		Asked:    []byte(`{"item":"deployments.apps/shop/ünï \"x\""}`),
		Note:     []byte(`{"why":"ünïcode\n"}`),
		Chain:    [32]byte{1, 2, 31: 255},
		Data:     []byte(`[{"op":"replace","path":"/spec/replicas","value":5}]`),
	}
	odd := events.Event{
		Type: "x.y", Actor: events.Actor{Kind: "api"}, User: "CN=a b, O=\"c\" ü",
		Object: events.Ref{Resource: "nodes", Name: "a b*>.c"}, Data: []byte(`{}`),
	}
	many := events.Event{Type: "x.y", Object: events.Ref{Resource: "pods", Namespace: "a", Name: "b"}, More: true, Data: bigData()}
	end := events.Event{Type: "x.y", Object: events.Ref{Resource: "pods", Namespace: "a", Name: "b"}, Data: []byte(`[]`)}
	want := []events.Event{full, odd, many, end}
	appendAll(t, log, 0, want[:1])
	appendAll(t, log, 1, want[1:2])
	appendAll(t, log, 2, want[2:])
	want = slices.Clone(want) // those are the log's
	for i := range want {
		want[i].Sequence = uint64(i + 1)
		got, err := log.Get(t.Context(), want[i].Sequence)
		if err != nil {
			t.Fatal(err)
		}
		same(t, []events.Event{got}, want[i:i+1])
	}
	same(t, read(t, log, 1, 4), want)
	ends(t, log, 1, 4)
	if _, err := log.Get(t.Context(), 5); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("beyond the end: %v", err)
	}
}

func fence(t *testing.T, log events.Log) {
	appendAll(t, log, 0, batch(1, 3))
	for _, after := range []uint64{0, 2, 4, 1000} {
		for _, n := range []uint64{1, 2, 40} {
			if _, err := log.Append(t.Context(), after, batch(1, n)); !errors.Is(err, events.ErrStale) {
				t.Errorf("appending %d after %d, where the log ends at 3: %v, want ErrStale", n, after, err)
			}
		}
	}
	ends(t, log, 1, 3)
	appendAll(t, log, 3, batch(4, 5))
	same(t, read(t, log, 1, 5), batch(1, 5))
}

func rivals(t *testing.T, log events.Log) {
	const writers, rounds = 4, 10
	var mu sync.Mutex
	won := map[uint64]string{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; i < rounds; {
				last, err := log.Last(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mine := batch(1, uint64(1+w))
				for j := range mine {
					mine[j].UID = fmt.Sprintf("%d/%d", w, i)
				}
				end, err := log.Append(t.Context(), last, mine)
				if errors.Is(err, events.ErrStale) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				i++
				mu.Lock()
				for s := last + 1; s <= end; s++ {
					if won[s] != "" {
						t.Errorf("sequence %d was given to %s and to %s", s, won[s], mine[0].UID)
					}
					won[s] = mine[0].UID
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	total := uint64(rounds * writers * (writers + 1) / 2)
	ends(t, log, 1, total)
	for _, e := range read(t, log, 1, total) {
		if e.UID != won[e.Sequence] {
			t.Errorf("sequence %d holds %s's event, and was given to %s", e.Sequence, e.UID, won[e.Sequence])
		}
	}
}

func limit(t *testing.T, log events.Log) {
	if _, err := log.Append(t.Context(), 0, batch(1, events.MaxBatch+1)); err == nil || errors.Is(err, events.ErrStale) || errors.Is(err, events.ErrUncertain) {
		t.Errorf("a batch over the limit: %v", err)
	}
	ends(t, log, 1, 0)
	appendAll(t, log, 0, batch(1, events.MaxBatch))
	ends(t, log, 1, events.MaxBatch)
	same(t, read(t, log, 1, events.MaxBatch), batch(1, events.MaxBatch))
}

func cancelled(t *testing.T, log events.Log) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Append(ctx, 0, batch(1, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ends(t, log, 1, 0)
}

// ends checks where the log begins and ends.
func ends(t *testing.T, log events.Log, first, last uint64) {
	t.Helper()
	f, err := log.First(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f != first || l != last {
		t.Errorf("the log goes from %d to %d, want %d to %d", f, l, first, last)
	}
}

// batch returns events that differ, with the sequences from first to last.
func batch(first, last uint64) []events.Event {
	var all []events.Event
	for s := first; s <= last; s++ {
		all = append(all, events.Event{
			Sequence: s,
			Type:     "configmap.updated", UID: "u", Actor: events.Actor{Kind: "api"},
			Object: events.Ref{Resource: "configmaps", Namespace: "default", Name: fmt.Sprintf("c%d", s%7)},
			Time:   time.UnixMilli(1767323045000 + int64(s)).UTC(),
			Data:   fmt.Appendf(nil, `[{"op":"replace","path":"/data/n","value":"%d"}]`, s),
		})
	}
	return all
}

func bigData() []byte {
	return fmt.Appendf(nil, `{"data":"%s"}`, slices.Repeat([]byte("0123456789"), 30_000))
}

func appendAll(t *testing.T, log events.Log, after uint64, batch []events.Event) {
	t.Helper()
	last, err := log.Append(t.Context(), after, batch)
	if err != nil {
		t.Fatal(err)
	}
	if want := after + uint64(len(batch)); last != want {
		t.Fatalf("the log ends at %d after the append, want %d", last, want)
	}
}
