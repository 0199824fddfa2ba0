package live_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

func start(t *testing.T, log events.Log, opts live.Options) *live.Live {
	t.Helper()
	l, err := live.Start(t.Context(), log, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func grow(t *testing.T, log events.Log, batch []events.Event) uint64 {
	t.Helper()
	for len(batch) > 0 {
		n := 1
		for n < len(batch) && (batch[n-1].More || n < 100) {
			n++
		}
		if _, err := log.Append(t.Context(), batch[0].Sequence-1, batch[:n]); err != nil {
			t.Fatal(err)
		}
		batch = batch[n:]
	}
	last, _ := log.Last(t.Context())
	return last
}

func TestEmptyLog(t *testing.T) {
	l := start(t, memlog.New(), live.Options{})
	if l.Folded() != 0 || l.View().Sequence() != 0 {
		t.Errorf("an empty log is folded to %d", l.Folded())
	}
	if err := l.Wait(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

func TestFollows(t *testing.T) {
	h := projectionstest.Random(1, 1000)
	log := memlog.New()
	grow(t, log, h.Events[:500])
	l := start(t, log, live.Options{})
	if l.Folded() != 500 {
		t.Fatalf("started at %d, want 500", l.Folded())
	}
	early := l.View()
	hash := projections.Hash(early)
	changes, err := l.Changes(t.Context(), 500)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Go(func() {
			if err := l.Wait(t.Context(), 501+uint64(i%500)); err != nil {
				t.Error(err)
			}
		})
	}
	grow(t, log, h.Events[500:])
	for want := uint64(501); want <= 1000; {
		got, err := changes.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got {
			if c.Event.Sequence != want {
				t.Fatalf("change of sequence %d where %d is due", c.Event.Sequence, want)
			}
			want++
		}
	}
	wg.Wait()
	if projections.Hash(early) != hash {
		t.Error("a view changed after it was taken")
	}
	s := projections.NewState()
	if _, err := s.Fold(h.Events); err != nil {
		t.Fatal(err)
	}
	if got, want := projections.Hash(l.View()), projections.Hash(s.View()); got != want {
		t.Errorf("followed to %s, folded at once to %s", got, want)
	}
}

func TestTooOld(t *testing.T) {
	log := memlog.New()
	h := projectionstest.Random(2, 100)
	grow(t, log, h.Events[:40])
	l := start(t, log, live.Options{Recent: 20})
	slow, err := l.Changes(t.Context(), 25)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Changes(t.Context(), 3); !errors.Is(err, live.ErrTooOld) {
		t.Errorf("changes from long ago: %v", err)
	}
	if err := l.Wait(t.Context(), grow(t, log, h.Events[40:])); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Next(t.Context()); !errors.Is(err, live.ErrTooOld) {
		t.Errorf("a follower that fell behind: %v", err)
	}
	for after := uint64(80); after < 100; after++ {
		c, err := l.Changes(t.Context(), after)
		if err != nil {
			t.Fatalf("after %d: %v", after, err)
		}
		got, err := c.Next(t.Context())
		if err != nil || got[0].Event.Sequence != after+1 || len(got) != int(100-after) {
			t.Errorf("after %d: %d changes, %v", after, len(got), err)
		}
	}
}

func TestStopsLoudly(t *testing.T) {
	log := memlog.New()
	h := projectionstest.NewHistory()
	h.Create(projectionstest.Pod("a", "b"), `{"metadata":{"name":"b"}}`)
	grow(t, log, h.Events)
	l := start(t, log, live.Options{})
	future := events.Event{Sequence: 2, Type: "pod.teleported", Object: projectionstest.Pod("a", "b"), UID: "u1", Data: []byte(`[]`)}
	future.Chain = events.Link(h.Events[0].Chain, &future)
	grow(t, log, []events.Event{future})
	err := l.Wait(t.Context(), 2)
	var unknown *projections.UnknownTypeError
	if !errors.As(err, &unknown) || unknown.Sequence != 2 || unknown.Type != "pod.teleported" {
		t.Errorf("an unknown type: %v", err)
	}
	<-l.Done()
	if !errors.Is(l.Err(), events.ErrNewerLog) {
		t.Errorf("Err = %v", l.Err())
	}
	if l.Folded() != 1 {
		t.Errorf("folded to %d", l.Folded())
	}
}

func TestWaitGivesUp(t *testing.T) {
	l := start(t, memlog.New(), live.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := l.Wait(ctx, 7); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what does not come: %v", err)
	}
	l.Close()
	if err := l.Wait(t.Context(), 7); !errors.Is(err, live.ErrClosed) {
		t.Errorf("waiting for what is closed: %v", err)
	}
}
