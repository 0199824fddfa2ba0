package scheduler

import (
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
)

func TestTranscripts(t *testing.T) { runnertest.Run(t, "testdata", New("")) }

// What the log keeps is canonical, although encode does not sort.
func TestDecisionsAreCanonical(t *testing.T) {
	for _, nodes := range []int{0, 1, 20} { // none fits, some do, all do
		v := runner.View{Reader: cluster(nodes, 5, 500)}
		for _, d := range New("").Decide(v, runner.Item{Ref: queue}, time.Unix(0, 0)).Decisions {
			if c := d.Changes[0]; !events.IsCanonical(c.Data) || !events.IsCanonical(c.Note) {
				t.Fatalf("not canonical: %s\n%s", c.Data, c.Note)
			}
		}
	}
}
