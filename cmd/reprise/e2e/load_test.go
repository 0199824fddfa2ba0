//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/cmd/load"
	"github.com/reprise-run/reprise/cmd/load/clusters"
)

// TestLoad runs `make bench` in the small: what it says is sane, and all that is
// created runs, and goes.
func TestLoad(t *testing.T) {
	t.Parallel()
	c, err := clusters.Reprise(t.Context(), clusters.Options{
		Binaries: binaries(), Dir: filepath.Join(t.TempDir(), "cluster"), Nodes: 20, Lost: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, s := range []load.Scenario{
		{Kind: load.Deploy, Pods: 200, Nodes: 20, PerDeployment: 60},
		{Kind: load.Rolling, Pods: 60, Nodes: 20, PerDeployment: 20},
		{Kind: load.Watchers, Pods: 20, Nodes: 20, PerDeployment: 10, Watchers: 60},
		{Kind: load.Failure, Pods: 100, Nodes: 20, PerDeployment: 20, Lost: 2},
	} {
		failure := s.Kind == load.Failure
		r, err := load.Run(t.Context(), c.Target, s, load.Options{Within: patience, Probes: 10, Say: t.Logf, Leave: failure})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", *r)
		steps := []string{"created", "bound", "running", "in all"}
		switch s.Kind {
		case load.Deploy, load.Rolling:
			steps = append(steps, "gone")
		case load.Failure:
			steps = append(steps, "elsewhere")
			if seen := r.Step("seen lost"); seen.Count != s.Lost {
				t.Errorf("%s: %+v", s, seen)
			}
		case load.Watchers:
			steps = append(steps, "gone")
			// A watcher hears at least of a pod's creation, binding and readiness.
			if heard := r.Step("delivered"); heard.Count < s.Watchers*s.Pods*3 || heard.Count != heard.Want {
				t.Errorf("%s: %d watchers have heard %d events", s, s.Watchers, heard.Count)
			}
		}
		for _, name := range steps {
			step, want := r.Step(name), s.Pods
			if failure { // Those that were on the two nodes: a twentieth each, spread evenly.
				want = r.Step("elsewhere").Want
			}
			if step.Count != want || step.Count == 0 || step.PerSecond <= 0 || step.Latency.P50 > step.Latency.P99 {
				t.Errorf("%s: %+v", s, step)
			}
		}
		if r.Missing != "" || len(r.Calls) == 0 {
			t.Errorf("%s: missing %q; of %+v %d failed: %s", s, r.Missing, r.Calls, r.FailedCalls, r.Failure)
		}
		if r.Up.Control <= 0 || r.Up.Nodes <= 0 || r.Events < 3 || r.Events > 50 || r.StoredBytes <= 0 || r.EndBytes < 50e6 || r.PeakBytes < r.EndBytes {
			t.Errorf("%s: what it took is not to be believed: %+v", s, *r)
		}
	}
}
