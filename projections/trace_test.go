package projections_test

import (
	"maps"
	"math"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// From each view to each later one the trace names all pods and nodes of which the two
// have other versions, and backwards it leads nowhere.
func TestTrace(t *testing.T) {
	for seed := range uint64(3) {
		s := projections.NewState()
		type moment struct {
			trace   *projections.Trace
			objects map[events.Ref]*projections.Entry
		}
		var seen []moment
		named := 0
		h := projectionstest.Random(seed, 1500)
		for i := range h.Events {
			if _, err := s.Fold(h.Events[i : i+1]); err != nil {
				t.Fatal(err)
			}
			if i%40 != 0 {
				continue
			}
			v := s.View()
			now := moment{v.(projections.Traced).Trace(), map[events.Ref]*projections.Entry{}}
			for _, resource := range []string{"pods", "nodes"} {
				for e := range v.List("", resource, "") {
					now.objects[e.Ref] = e
				}
			}
			for _, before := range seen {
				changed, ok := before.trace.To(now.trace, len(h.Events))
				if !ok {
					t.Fatalf("seed %d, sequence %d: an earlier view is not known", seed, v.Sequence())
				}
				named += len(changed)
				same, after := maps.Clone(before.objects), maps.Clone(now.objects)
				for _, ref := range changed {
					delete(same, ref)
					delete(after, ref)
				}
				if !maps.Equal(same, after) {
					t.Fatalf("seed %d, sequence %d: something has changed that is not named", seed, v.Sequence())
				}
				if _, ok := now.trace.To(before.trace, len(h.Events)); ok && *now.trace != *before.trace {
					t.Fatalf("seed %d, sequence %d: the trace leads backwards", seed, v.Sequence())
				}
				if _, ok := before.trace.To(now.trace, len(changed)-1); ok && len(changed) > 0 {
					t.Fatalf("seed %d, sequence %d: more is named than was asked for", seed, v.Sequence())
				}
			}
			seen = append(seen, now)
		}
		if named < 1000 {
			t.Errorf("seed %d: only %d changes are named", seed, named)
		}
	}
}

// A trace does not hold on to all that has changed since: it ends, and who remembers the
// place before that finds out.
func TestTraceEnds(t *testing.T) {
	s := projections.NewState()
	ref := events.Ref{Resource: "pods", Namespace: "ns", Name: "p"}
	trace := func() *projections.Trace { return s.View().(projections.Traced).Trace() }
	known, begun := trace(), 0
	for i := range uint64(300_000) {
		s.Put(&projections.Entry{Ref: ref, Sequence: i})
		now := trace()
		changed, ok := known.To(now, math.MaxInt)
		if ok && (len(changed) != 1 || changed[0] != ref) {
			t.Fatalf("change %d: %v were named", i, changed)
		}
		if !ok {
			begun++
		}
		known = now
	}
	if begun != 2 {
		t.Errorf("the trace began anew %d times", begun)
	}
}

// Who remembers a place may go on from there while there are further changes.
func TestTraceIsReadWhileItGrows(t *testing.T) {
	const changes = 5000
	s := projections.NewState()
	views := make(chan *projections.Trace, changes)
	go func() {
		defer close(views)
		for i := range uint64(changes) {
			s.Put(&projections.Entry{Ref: events.Ref{Resource: "pods", Namespace: "ns", Name: "p"}, Sequence: i})
			views <- s.View().(projections.Traced).Trace()
		}
	}()
	first := <-views
	named, last := 0, first
	for now := range views {
		changed, ok := last.To(now, 1)
		if !ok || len(changed) != 1 {
			t.Fatalf("from one view to the next %v have changed (%v)", changed, ok)
		}
		last, named = now, named+1
	}
	if all, ok := first.To(last, named); !ok || len(all) != named {
		t.Errorf("%d changes are named one by one, and %d together (%v)", named, len(all), ok)
	}
}
