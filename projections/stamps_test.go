package projections_test

import (
	"slices"
	"testing"

	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// The stamp of a node is the same in two views only if the same versions of the same
// pods are on it, and it is the same from view to view while nothing changes there.
func TestStamps(t *testing.T) {
	for seed := range uint64(5) {
		s := projections.NewState()
		type look struct {
			stamp *projections.Stamp
			pods  []*projections.Entry
		}
		var before, looks map[string]look
		all := map[*projections.Stamp][]*projections.Entry{}
		kept := 0
		h := projectionstest.Random(seed, 1500)
		for i := range h.Events {
			if _, err := s.Fold(h.Events[i : i+1]); err != nil {
				t.Fatal(err)
			}
			v := s.View()
			before, looks = looks, map[string]look{}
			nodes := map[string]bool{}
			for e := range v.List("", "pods", "") {
				nodes[e.Node()] = true
			}
			delete(nodes, "")
			for node := range nodes {
				l := look{v.(projections.Stamped).Stamp(node), slices.Collect(v.OnNode(node))}
				if known, ok := all[l.stamp]; l.stamp == nil || ok && !slices.Equal(known, l.pods) {
					t.Fatalf("seed %d, sequence %d: the stamp of %s stands for other pods", seed, v.Sequence(), node)
				}
				if was := before[node]; slices.Equal(was.pods, l.pods) {
					kept++
					if was.stamp != l.stamp {
						t.Fatalf("seed %d, sequence %d: %s is stamped anew for nothing", seed, v.Sequence(), node)
					}
				}
				all[l.stamp], looks[node] = l.pods, l
			}
		}
		if len(all) < 50 || kept < 50 {
			t.Errorf("seed %d: only %d stamps were seen, %d of them again", seed, len(all), kept)
		}
	}
}
