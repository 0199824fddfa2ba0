package archivist_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/archivist"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// load reads an archive into a store of its own.
func load(t testing.TB, file []byte) (*pebble.Store, *projections.State, archive.Header, error) {
	t.Helper()
	a, err := archive.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	store := open(t)
	state, err := archivist.Load(t.Context(), a, store, nil)
	return store, state, a.Header(), err
}

func export(t testing.TB, source archivist.Source, from, to uint64) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := source.Write(t.Context(), &file, from, to); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// TestAWholeArchiveIsTheProjection compares, key by key, what an archive of a whole
// log makes with what the log made.
func TestAWholeArchiveIsTheProjection(t *testing.T) {
	_, source := recorded(t, 2000)
	store, _, _, err := load(t, export(t, source, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	var got, want strings.Builder
	if err := errors.Join(store.DumpKeys(&got), source.Reader.(*pebble.Store).DumpKeys(&want)); err != nil || got.String() != want.String() {
		t.Errorf("the projections differ (%v)", err)
	}
}

// TestAPartAnswersAsTheWhole asks an archive of a part, and the log, the same.
func TestAPartAnswersAsTheWhole(t *testing.T) {
	all, source := recorded(t, 2000)
	whole := source.Reader
	part, state, h, err := load(t, export(t, source, 800, 1600))
	if err != nil {
		t.Fatal(err)
	}
	if part.Folded() != h.To || state.Sequence() != h.To {
		t.Errorf("it is folded to %d, and the archive ends with %d", part.Folded(), h.To)
	}
	for at := h.From - 1; at <= h.To; at += 97 {
		want, err := whole.StateAt(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := part.StateAt(t.Context(), at)
		if err != nil || projections.Hash(got.View()) != projections.Hash(want.View()) {
			t.Fatalf("at %d the state is another: %v", at, err)
		}
	}
	for _, e := range projectionstest.All(state.View()) {
		var want []string
		for ev, err := range whole.Events(t.Context(), history.Query{Object: e.Ref, First: h.From, Last: h.To}) {
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, ev.Text())
		}
		for _, q := range []history.Query{{Object: e.Ref}, {Object: e.Ref, Backward: true}} {
			n := 0
			for ev, err := range part.Events(t.Context(), q) {
				i := n
				if q.Backward {
					i = len(want) - 1 - n
				}
				if err != nil || i < 0 || i >= len(want) || ev.Text() != want[i] {
					t.Fatalf("event %d of %s is %s (%v)", n, e.Ref, ev.Headline(), err)
				}
				n++
			}
			if n != len(want) {
				t.Errorf("%s has %d events, want %d", e.Ref, n, len(want))
			}
		}
	}
	for _, s := range []uint64{h.From, h.From + 100, h.To} {
		at := all[s-1].Time
		if got, err := part.SequenceAt(at); err != nil || got != s {
			t.Errorf("the sequence at the time of event %d is %d: %v", s, got, err)
		}
	}
	if got, err := part.SequenceAt(all[h.From-3].Time); err != nil || got != 0 {
		t.Errorf("before it begins: %d, %v", got, err)
	}
	first, last, err := history.Span(part)
	if err != nil || first.Sequence != h.From || last.Sequence != h.To {
		t.Errorf("it goes from %d to %d: %v", first.Sequence, last.Sequence, err)
	}
}

// TestBeforeTheBeginning shows that a part does not make up what it does not know.
func TestBeforeTheBeginning(t *testing.T) {
	all, source := recorded(t, 2000)
	part, _, h, err := load(t, export(t, source, 800, 1600))
	if err != nil {
		t.Fatal(err)
	}
	_, event := part.Event(h.From - 1)
	_, object := part.At(all[0].Object, h.From-2)
	_, state := part.StateAt(t.Context(), 5)
	var list error
	for _, list = range part.ListAt(t.Context(), "", "pods", "", 5) {
	}
	for name, err := range map[string]error{"an event": event, "an object": object, "the state": state, "a list": list} {
		if !errors.Is(err, events.ErrNotFound) || !strings.Contains(err.Error(), "this history begins with event") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := part.Begin(1, [32]byte{}, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("beginning twice: %v", err)
	}
}

// TestWhyEndsAtTheBeginning follows causes out of a part.
func TestWhyEndsAtTheBeginning(t *testing.T) {
	all, source := recorded(t, 2000)
	part, _, h, err := load(t, export(t, source, 800, 1600))
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, e := range all[h.From-1 : h.To] {
		last := events.Event{}
		for cause, err := range history.Chain(part, e.Sequence) {
			if err != nil {
				t.Fatalf("why of event %d: %v", e.Sequence, err)
			}
			last = cause
		}
		if last.Cause >= h.From {
			t.Errorf("why of event %d ends with %d, whose cause %d is there", e.Sequence, last.Sequence, last.Cause)
		}
		if last.Cause != 0 {
			left++
		}
	}
	if left == 0 {
		t.Error("no cause leads out of the part, so this tests nothing")
	}
	for _, err = range history.Chain(part, 5) {
	}
	if !errors.Is(err, events.ErrNotFound) {
		t.Errorf("why of an event that is not there: %v", err)
	}
}

// TestLoadsTheGoodPart reads an archive up to where it is damaged.
func TestLoadsTheGoodPart(t *testing.T) {
	_, source := recorded(t, 20_000)
	file := export(t, source, 800, 0)
	file[len(file)*2/3] ^= 1
	part, state, _, err := load(t, file)
	var damage *archive.DamageError
	if !errors.As(err, &damage) {
		t.Fatalf("got %v", err)
	}
	if at := part.Folded(); at != state.Sequence() || at > damage.Good || at+20 < damage.Good || at < 2000 {
		t.Errorf("it is folded to %d, and good to %d", at, damage.Good)
	}
	e, err := part.Event(part.Folded())
	if err != nil || e.More {
		t.Errorf("it ends in the middle of a decision: %v", err)
	}
}

// BenchmarkLoad opens an archive.
func BenchmarkLoad(b *testing.B) {
	_, source := recorded(b, 50_000)
	file := export(b, source, 0, 0)
	start := time.Now()
	for b.Loop() {
		if _, _, _, err := load(b, file); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(50_000*float64(b.N)/time.Since(start).Seconds(), "events/s")
}
