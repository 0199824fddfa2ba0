package scheduler

import (
	"math"
	"slices"
	"testing"
)

// A host stands above another if its total is higher, and of two with the same if it has
// fewer pods, whatever the weights are; one that is refused stands below all.
func TestStandings(t *testing.T) {
	const heaviest = 100 * 7 * math.MaxInt32 // all scores at their most, with the greatest weights
	ordered := []standing{
		none,
		standingOf(0, 1<<40), standingOf(0, 2), standingOf(0, 0),
		standingOf(1, 110), standingOf(1, 109), standingOf(1, 0),
		standingOf(heaviest-1, 0),
		standingOf(heaviest, 1<<19), standingOf(heaviest, 0),
	}
	if standingOf(none, 0) != none {
		t.Errorf("a host that is refused stands at %d", standingOf(none, 0))
	}
	if !slices.IsSorted(ordered) || len(slices.Compact(slices.Clone(ordered))) != len(ordered) {
		t.Errorf("the standings do not ascend: %d", ordered)
	}
}
