package pebble_test

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func open(t testing.TB, fs vfs.FS) *pebble.Store {
	t.Helper()
	s, err := pebble.Open("p", pebble.Options{FS: fs, Log: quiet, MemTable: 1 << 18})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill folds events into a store in batches of at most n, ending at decisions.
func fill(t testing.TB, s *pebble.Store, batch []events.Event, n int) *projections.State {
	t.Helper()
	state := resume(t, s)
	batch = batch[state.Sequence():]
	for len(batch) > 0 {
		end := min(n, len(batch))
		for batch[end-1].More && end < len(batch) {
			end++
		}
		changes, err := state.Fold(batch[:end])
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(batch[:end], changes); err != nil {
			t.Fatal(err)
		}
		batch = batch[end:]
	}
	return state
}

// resume is the state that a store has.
func resume(t testing.TB, s *pebble.Store) *projections.State {
	t.Helper()
	objects, at, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state := projections.NewState()
	for _, e := range objects {
		state.Put(e)
	}
	state.StartAt(at)
	return state
}

func dump(t testing.TB, s *pebble.Store) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.DumpKeys(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRebuildGivesTheSameBytes(t *testing.T) {
	h := projectionstest.Random(1, 3000)
	var want string
	for _, n := range []int{1, 7, 500, 3000} {
		fs := vfs.NewMem()
		s := open(t, fs)
		if n == 500 { // Closed and opened again half way.
			fill(t, s, h.Events[:whole(h.Events, 1500)], n)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, fs)
		}
		fill(t, s, h.Events, n)
		// Again, all of it: duplicates change nothing.
		if err := s.Commit(h.Events, nil); err != nil {
			t.Fatal(err)
		}
		got := dump(t, s)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("in batches of %d the projection comes out otherwise", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// whole is the first end of a decision at or after n.
func whole(all []events.Event, n int) int {
	for n < len(all) && all[n-1].More {
		n++
	}
	return n
}

func TestAnyMoment(t *testing.T) {
	h := projectionstest.Random(2, 800)
	s := open(t, vfs.NewMem())
	defer s.Close()
	fill(t, s, h.Events, 64)
	state := projections.NewState()
	for i := range h.Events {
		if _, err := state.Fold(h.Events[i : i+1]); err != nil {
			t.Fatal(err)
		}
		sequence := uint64(i + 1)
		view := state.View()
		ref := h.Events[i].Object
		e, err := s.At(ref, sequence)
		if err != nil {
			t.Fatal(err)
		}
		same(t, e, view.Get(ref))
		for _, list := range [][3]string{{"", "pods", ""}, {"", "pods", "ns1"}, {"apps", "deployments", ""}, {"", "none", ""}} {
			want := slices.Collect(view.List(list[0], list[1], list[2]))
			listed(t, s.ListAt(t.Context(), list[0], list[1], list[2], sequence), want)
			for i, e := range want {
				if i%5 == 0 {
					listed(t, s.ListFrom(t.Context(), e.Ref, list[2], sequence, 0), want[i:])
					some := want[i:min(i+3, len(want))]
					listed(t, s.ListFrom(t.Context(), e.Ref, list[2], sequence, 3), some)
					if n, err := s.CountFrom(t.Context(), e.Ref, list[2], sequence); err != nil || n != len(want)-i {
						t.Fatalf("from %s on there are %d: %v", e.Ref, n, err)
					}
				}
			}
		}
	}
}

// listed checks that a list has what it should, in order.
func listed(t *testing.T, list iter.Seq2[*projections.Entry, error], want []*projections.Entry) {
	t.Helper()
	for e, err := range list {
		if err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 {
			t.Fatalf("%s should not be listed", e.Ref)
		}
		same(t, e, want[0])
		want = want[1:]
	}
	if len(want) > 0 {
		t.Fatalf("%s is not listed", want[0].Ref)
	}
}

func same(t *testing.T, got, want *projections.Entry) {
	t.Helper()
	switch {
	case got == nil && want == nil:
	case got == nil || want == nil:
		t.Fatalf("got %v, want %v", got, want)
	case got.Line() != want.Line() || got.Version != want.Version:
		t.Fatalf("got\n%s (%d)\nwant\n%s (%d)", got.Line(), got.Version, want.Line(), want.Version)
	}
}

func TestHistory(t *testing.T) {
	h := projectionstest.Random(3, 1000)
	s := open(t, vfs.NewMem())
	defer s.Close()
	fill(t, s, h.Events, 100)
	some := h.Events[700]
	for name, q := range map[string]history.Query{
		"all":            {},
		"an object":      {Object: some.Object},
		"a uid":          {UID: some.UID},
		"no such uid":    {UID: "nobody"},
		"a namespace":    {Namespace: "ns1"},
		"a resource":     {Resource: "deployments.apps"},
		"a type":         {Type: "pod.created"},
		"a fact":         {Type: "*.deleted"},
		"an actor":       {Actor: "api"},
		"nobody":         {Actor: "node:n1"},
		"a user":         {User: "admin"},
		"sequences":      {First: 100, Last: 200},
		"upside down":    {First: 200, Last: 100},
		"object, so":     {Object: some.Object, First: 200, Last: 100},
		"times so":       {Since: h.Events[199].Time, Until: h.Events[99].Time},
		"beyond the end": {First: 2000},
		"times":          {Since: h.Events[99].Time, Until: h.Events[199].Time},
		"before it all":  {Until: projectionstest.Epoch},
		"object in time": {Object: some.Object, Since: h.Events[99].Time},
	} {
		t.Run(name, func(t *testing.T) {
			var want []events.Event
			for _, e := range h.Events {
				if q.Matches(&e) {
					want = append(want, e)
				}
			}
			equal(t, collect(t, s, q), want)
			q.Backward = true
			q.Limit = 10
			slices.Reverse(want)
			equal(t, collect(t, s, q), want[:min(10, len(want))])
		})
	}
	for i, e := range h.Events {
		if got, err := s.SequenceAt(e.Time); err != nil || got != e.Sequence {
			t.Fatalf("at the time of %d: %d, %v", e.Sequence, got, err)
		}
		chain, err := history.Why(s, e.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if root := chain[len(chain)-1]; root.Cause != 0 || root.User != "admin" {
			t.Fatalf("event %d goes back to %s", i, root.Headline())
		}
	}
	tree, _, err := history.Down(history.Told{Event: h.Events[0]}, 10000, history.Following(t.Context(), s))
	if err != nil || len(tree.Then) == 0 {
		t.Fatalf("nothing followed from the first event: %v", err)
	}
	for _, next := range tree.Then {
		if next.Event.Cause != 1 {
			t.Errorf("%s did not follow from 1", next.Event.Headline())
		}
	}
	if _, err := s.Event(1001); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("beyond the end: %v", err)
	}
}

func collect(t *testing.T, s *pebble.Store, q history.Query) (all []events.Event) {
	t.Helper()
	for e, err := range s.Events(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func equal(t *testing.T, got, want []events.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Text() != want[i].Text() {
			t.Fatalf("got\n%s\nwant\n%s", got[i].Text(), want[i].Text())
		}
	}
}

func TestVerify(t *testing.T) {
	h := projectionstest.Random(7, 1000)
	log := memlog.New()
	end := whole(h.Events, 600)
	if _, err := log.Append(t.Context(), 0, h.Events[:end]); err != nil {
		t.Fatal(err)
	}
	s := open(t, vfs.NewMem())
	defer s.Close()
	l, err := live.Start(t.Context(), log, live.Options{Store: s, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	report, err := s.Verify(t.Context(), log, l.View())
	if err != nil {
		t.Fatal(err)
	}
	if !report.Identical() || report.Hash != report.Stored || report.State != report.Live || report.Hash == "" || report.State == "" || report.Sequence != uint64(end) {
		t.Errorf("a whole projection: %+v", report)
	}
	older := l.View()
	if _, err := log.Append(t.Context(), uint64(end), h.Events[end:]); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	if report, err = s.Verify(t.Context(), log, older); err != nil || !report.Identical() || report.Live == "" || report.Objects != countOf(l.View()) {
		t.Errorf("with an older view: %+v, %v", report, err)
	}
	tampered := memlog.New()
	forged := slices.Clone(h.Events)
	forged[500].User = "mallory"
	if _, err := tampered.Append(t.Context(), 0, forged); err != nil {
		t.Fatal(err)
	}
	if report, err = s.Verify(t.Context(), tampered, nil); err != nil || !strings.Contains(report.Damage, "sequence 501") {
		t.Errorf("a forged log: %+v, %v", report, err)
	}
	if report, err = s.Verify(t.Context(), memlog.New(), nil); err != nil || !strings.Contains(report.Damage, "has lost") {
		t.Errorf("an empty log: %+v, %v", report, err)
	}
	wrong := projections.NewState()
	if _, err := wrong.Fold(h.Events); err != nil {
		t.Fatal(err)
	}
	for e := range wrong.View().List("apps", "deployments", "") {
		wrong.Put(projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, []byte(`{}`)))
		break
	}
	if report, err = s.Verify(t.Context(), log, wrong.View()); err != nil || !strings.Contains(report.Difference, "should be") {
		t.Errorf("a wrong state in memory: %+v, %v", report, err)
	}
}

func countOf(r projections.Reader) (n int) {
	for resource := range r.Resources() {
		for range r.List(resource.Group, resource.Resource, "") {
			n++
		}
	}
	return n
}

func TestOtherLog(t *testing.T) {
	h, other := projectionstest.Random(8, 50), projectionstest.Random(9, 80)
	fs := vfs.NewMem()
	s := open(t, fs)
	defer s.Close()
	fill(t, s, h.Events, 10)
	log := memlog.New()
	if _, err := live.Start(t.Context(), log, live.Options{Store: s, Log: quiet}); !errors.Is(err, live.ErrOtherLog) {
		t.Errorf("a log that lost all: %v", err)
	}
	if _, err := log.Append(t.Context(), 0, other.Events); err != nil {
		t.Fatal(err)
	}
	if _, err := live.Start(t.Context(), log, live.Options{Store: s, Log: quiet}); !errors.Is(err, live.ErrOtherLog) {
		t.Errorf("another log: %v", err)
	}
}
