package pebble_test

import (
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// The chains that a projection yields are those of the log.
func TestChains(t *testing.T) {
	h := projectionstest.Random(3, 500)
	s, err := pebble.Open(filepath.Join(t.TempDir(), "projection"), pebble.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fill(t, s, h.Events, 100)
	for _, c := range [][2]uint64{{1, uint64(len(h.Events))}, {7, 7}, {100, 300}} {
		next := c[0]
		for chain, err := range s.Chains(c[0], c[1]) {
			if err != nil || chain != h.Events[next-1].Chain {
				t.Fatalf("the chain of event %d is %x (%v)", next, chain, err)
			}
			next++
		}
		if next != c[1]+1 {
			t.Errorf("%v ends before %d", c, next)
		}
	}
	var failed error
	for _, err := range s.Chains(1, uint64(len(h.Events))+1) {
		failed = err
	}
	if failed == nil {
		t.Error("there is a chain of an event that is not there")
	}
}
