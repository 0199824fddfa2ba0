package live_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

var errCut = errors.New("the connection is cut")

// flaky is a log whose readers fail after each batch.
type flaky struct{ events.Log }

func (f flaky) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	r, err := f.Log.Follow(ctx, from)
	return &once{Reader: r}, err
}

type once struct {
	events.Reader
	spent bool
}

func (o *once) Next(ctx context.Context) ([]events.Event, error) {
	if o.spent {
		return nil, errCut
	}
	o.spent = true
	return o.Reader.Next(ctx)
}

func TestComesBackToTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := projectionstest.Random(3, 200)
		log := memlog.New()
		l := start(t, flaky{log}, live.Options{Log: quiet})
		for i := 0; i < len(h.Events); {
			end := min(i+20, len(h.Events))
			for h.Events[end-1].More {
				end++
			}
			last := grow(t, log, h.Events[i:end])
			if err := l.Wait(t.Context(), last); err != nil {
				t.Fatal(err)
			}
			i = end
		}
		l.Close()
	})
}

// broken is a log whose readers find damage.
type broken struct{ events.Log }

func (b broken) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	r, err := b.Log.Follow(ctx, from)
	return damaged{r}, err
}

type damaged struct{ events.Reader }

func (damaged) Next(context.Context) ([]events.Event, error) {
	return nil, fmt.Errorf("message 3 is no event: %w", events.ErrDamaged)
}

func TestStopsAtDamage(t *testing.T) {
	log := memlog.New()
	grow(t, log, projectionstest.Random(3, 20).Events)
	if _, err := live.Start(t.Context(), broken{log}, live.Options{Log: quiet}); !errors.Is(err, events.ErrDamaged) {
		t.Errorf("a damaged log is followed: %v", err)
	}
}

// A bit that flipped in the log is not served: not by one that folds it all, and
// not by one that goes on from a stored projection.
func TestStopsAtAFlippedBit(t *testing.T) {
	h := projectionstest.Random(4, 300)
	half, data := 150, 200
	for h.Events[half-1].More {
		half++
	}
	for len(h.Events[data].Data) == 0 {
		data++
	}
	for name, c := range map[string]struct {
		stored bool
		long   uint64
	}{
		"from the beginning": {}, "from what is stored": {stored: true},
		"built from the beginning": {long: 100}, "built from what is stored": {stored: true, long: 100},
	} {
		t.Run(name, func(t *testing.T) {
			log, opts := memlog.New(), live.Options{Log: quiet, Long: c.long}
			grow(t, log, h.Events[:half])
			if c.stored {
				opts.Store = &store{state: projections.NewState()}
				start(t, log, opts).Close()
			}
			rest := slices.Clone(h.Events[half:])
			flipped := &rest[data-half]
			flipped.Data = bytes.Clone(flipped.Data)
			flipped.Data[len(flipped.Data)/2] ^= 1
			grow(t, log, rest)
			_, err := live.Start(t.Context(), log, opts)
			var at *events.ChainError
			if !errors.Is(err, events.ErrDamaged) || !errors.As(err, &at) || at.Sequence != flipped.Sequence || !strings.Contains(err.Error(), "restore it from a copy") {
				t.Errorf("the event at %d is another one: %v", flipped.Sequence, err)
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	h := projectionstest.Random(1, 20_000)
	log := memlog.New()
	for i := 0; i < len(h.Events); {
		n := min(500, len(h.Events)-i)
		for h.Events[i+n-1].More {
			n++
		}
		if _, err := log.Append(b.Context(), uint64(i), h.Events[i:i+n]); err != nil {
			b.Fatal(err)
		}
		i += n
	}
	for b.Loop() {
		l, err := live.Start(b.Context(), log, live.Options{Log: quiet})
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
	b.ReportMetric(float64(len(h.Events)*b.N)/b.Elapsed().Seconds(), "events/s")
}

// store is a durable projection that fails on request.
type store struct {
	state   *projections.State
	chain   [32]byte
	fail    error
	filling bool
}

func (s *store) Load(context.Context) ([]*projections.Entry, uint64, [32]byte, error) {
	return projectionstest.All(s.state.View()), s.state.Sequence(), s.chain, nil
}

func (s *store) Commit(batch []events.Event, changes []projections.Change) error {
	if s.fail != nil {
		return s.fail
	}
	if _, err := s.state.Fold(batch); err != nil {
		return err
	}
	s.chain = batch[len(batch)-1].Chain
	return nil
}

func (s *store) Fill(batch []events.Event, _ []projections.Outcome) error {
	s.filling = true
	return s.Commit(batch, nil)
}

func (s *store) Filled() error {
	s.filling = false
	return s.fail
}

// A long log is folded by a builder, from its beginning or from what is stored, and
// from then on followed as any.
func TestBuildsALongLog(t *testing.T) {
	for name, flawed := range map[string]bool{"in one go": false, "by a reader that fails": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { buildsALongLog(t, flawed) })
		})
	}
}

func buildsALongLog(t *testing.T, flawed bool) {
	h := projectionstest.Random(6, 900)
	half := 500
	for h.Events[half-1].More {
		half++
	}
	log, s := memlog.New(), &store{state: projections.NewState()}
	var from events.Log = log
	if flawed {
		from = flaky{log}
	}
	opts := live.Options{Store: s, Log: quiet, Long: 100}
	grow(t, log, h.Events[:half])
	start(t, from, opts).Close()
	grow(t, log, h.Events[half:])
	l := start(t, from, opts)
	if s.filling || s.state.Sequence() != 900 || projections.Hash(l.View()) != projections.Hash(s.state.View()) {
		t.Errorf("built up to %d, stored up to %d (filling: %t)", l.Folded(), s.state.Sequence(), s.filling)
	}
	if _, err := l.Changes(t.Context(), 899); !errors.Is(err, live.ErrTooOld) {
		t.Errorf("changes that nobody kept: %v", err)
	}
	changes, err := l.Changes(t.Context(), 900)
	if err != nil {
		t.Fatal(err)
	}
	grow(t, log, []events.Event{*h.Update(h.Alive()[0], `[{"op":"add","path":"/spec/z","value":1}]`)})
	if got, err := changes.Next(t.Context()); err != nil || len(got) != 1 || got[0].Event.Sequence != 901 {
		t.Errorf("after what was built comes %v: %v", got, err)
	}
	l.Close()
}

func TestBuildFails(t *testing.T) {
	h := projectionstest.Random(7, 300)
	full := errors.New("no room")
	bad := slices.Clone(h.Events)
	at := 200
	for !strings.HasSuffix(bad[at].Type, ".updated") {
		at++
	}
	bad[at].Data = []byte(`[{"op":"replace","path":"/nothing/there","value":1}]`)
	for i := at; i < len(bad); i++ {
		bad[i].Chain = events.Link(bad[i-1].Chain, &bad[i])
	}
	for name, c := range map[string]struct {
		events []events.Event
		store  *store
		is     func(error) bool
	}{
		"a store that takes nothing": {h.Events, &store{state: projections.NewState(), fail: full}, func(err error) bool { return errors.Is(err, full) }},
		"an event that cannot be folded": {bad, nil, func(err error) bool {
			rejected := (*projections.RejectedError)(nil)
			return errors.As(err, &rejected) && rejected.Sequence == uint64(at+1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			log, opts := memlog.New(), live.Options{Log: quiet, Long: 1}
			grow(t, log, c.events)
			if c.store != nil {
				opts.Store = c.store
			}
			if l, err := live.Start(t.Context(), log, opts); !c.is(err) {
				t.Errorf("%v, %v", l, err)
			}
		})
	}
}

func TestStore(t *testing.T) {
	h := projectionstest.Random(4, 300)
	log := memlog.New()
	half := 150
	for h.Events[half-1].More {
		half++
	}
	grow(t, log, h.Events[:half])
	s := &store{state: projections.NewState()}
	first := start(t, log, live.Options{Store: s, Log: quiet})
	first.Close()
	grow(t, log, h.Events[half:])
	second := start(t, log, live.Options{Store: s, Log: quiet})
	if s.state.Sequence() != 300 || projections.Hash(second.View()) != projections.Hash(s.state.View()) {
		t.Errorf("stored up to %d", s.state.Sequence())
	}
	second.Close()

	s.fail = errors.New("no room")
	third := start(t, log, live.Options{Store: s, Log: quiet})
	next := h.Update(h.Events[0].Object, `[{"op":"add","path":"/spec/z","value":1}]`)
	grow(t, log, []events.Event{*next})
	if err := third.Wait(t.Context(), 301); !errors.Is(err, s.fail) {
		t.Errorf("a store that fails: %v", err)
	}
	if third.Folded() != 300 {
		t.Errorf("what is not stored is shown, at %d", third.Folded())
	}
}

func TestVolatileIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		put := func(sequence uint64, name string) events.Event {
			return events.Event{
				Sequence: sequence, Type: "event.recorded", Optional: true, UID: name, Actor: events.Actor{Kind: "api"},
				Object: events.Ref{Resource: "events", Namespace: "shop", Name: name}, Data: []byte(`{"message":"hello"}`),
			}
		}
		log := memlog.New()
		grow(t, log, []events.Event{put(1, "a"), put(2, "b"), put(3, "c")})
		log.Forget(2)
		l := start(t, log, live.Options{Volatile: true, Log: quiet})
		has := func(name string) bool { return l.View().Get(put(0, name).Object) != nil }
		if has("a") || !has("b") || !has("c") {
			t.Error("at the start not just b and c are there")
		}
		log.Forget(3)
		<-time.After(2 * time.Minute)
		if has("b") || !has("c") {
			t.Error("what the log forgot is not dropped, or more than that")
		}
		log.Forget(4) // All of it.
		<-time.After(2 * time.Minute)
		if has("c") {
			t.Error("the last object is not dropped")
		}
		grow(t, log, []events.Event{put(4, "d")})
		if err := l.Wait(t.Context(), 4); err != nil || !has("d") {
			t.Errorf("after all was forgotten nothing comes: %v", err)
		}
		l.Close()
	})
}
