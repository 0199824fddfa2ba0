package scheduler

import (
	"testing"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// While a pod waits, the end of another concerns the queue, and whatever else changes what
// that takes up; nothing else that its node says of it does.
func TestWhatConcernsTheQueue(t *testing.T) {
	h, s := projectionstest.NewHistory(), projections.NewState()
	ref := projectionstest.Pod("shop", "web")
	const spec = `"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}]`
	h.Create(projectionstest.Pod("shop", "waits"), `{"metadata":{"name":"waits","namespace":"shop","uid":"w"},`+spec+`}}`)
	h.Create(ref, `{"metadata":{"name":"web","namespace":"shop","uid":"u"},`+spec+`,"nodeName":"n1"},"status":{"phase":"Pending"}}`)
	if _, err := s.Fold(h.Events); err != nil {
		t.Fatal(err)
	}
	scheduler := New("")
	for _, c := range []struct {
		patch string
		want  bool
	}{
		{`[{"op":"replace","path":"/status/phase","value":"Running"}]`, false},
		{`[{"op":"add","path":"/status/containerStatuses","value":[{"allocatedResources":{"cpu":"4"},"name":"c","resources":{"requests":{"cpu":"4"}}}]}]`, true},
		{`[{"op":"replace","path":"/status/containerStatuses/0/allocatedResources/cpu","value":"1"}]`, false},
		{`[{"op":"replace","path":"/status/containerStatuses/0/resources/requests/cpu","value":"2"}]`, true},
		{`[{"op":"add","path":"/status/podIP","value":"10.0.0.1"}]`, false},
		{`[{"op":"remove","path":"/status/containerStatuses"}]`, true},
		{`[{"op":"replace","path":"/status/phase","value":"Failed"}]`, true},
		{`[{"op":"add","path":"/status/reason","value":"Evicted"}]`, false},
	} {
		h.Update(ref, c.patch)
		changes, err := s.Fold(h.Events)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(scheduler.Concerns(runner.View{Reader: s.View()}, changes[0])) > 0; got != c.want {
			t.Errorf("%s concerns the queue: %t", c.patch, got)
		}
	}
}
