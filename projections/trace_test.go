package projections_test

import (
	"maps"
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
				if _, ok := now.trace.To(before.trace, len(h.Events)); ok && now.trace != before.trace {
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
