package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/projections"
)

// Pods that are small beside their nodes move no score by a whole point, and are
// spread evenly all the same, within a pass and over several.
func TestSmallPodsAreSpread(t *testing.T) {
	s := projections.NewState()
	const nodes, passes = 50, 3
	for i := range nodes {
		put(s, "nodes", "", fmt.Sprintf("n%d", i), "Node", "", `"spec":{},"status":{"allocatable":{"cpu":"32","memory":"256Gi","pods":"110"}}`)
	}
	scheduler := New("")
	for pass := range passes {
		for i := range nodes {
			put(s, "pods", "ns", fmt.Sprintf("p%d-%d", pass, i), "Pod", "", `"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"10m","memory":"16Mi"}}}]},"status":{"phase":"Pending"}`)
		}
		fold(t, s, scheduler.Decide(runner.View{Reader: s.View()}, runner.Item{Ref: queue, Because: 1}, time.Unix(int64(pass), 0)).Decisions)
		for i := range nodes {
			pods := 0
			for range s.View().OnNode(fmt.Sprintf("n%d", i)) {
				pods++
			}
			if pods != pass+1 {
				t.Errorf("after %d pods for each node n%d has %d", pass+1, i, pods)
			}
		}
	}
}
