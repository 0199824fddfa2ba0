package podgc_test

import (
	"slices"
	"testing"

	"github.com/reprise-run/reprise/agents/controllers/podgc"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// TestEndOfWhatGoes has pods end: those that stay are counted, which takes a look at
// all pods; one that is being deleted is never counted, so nobody looks at the others.
func TestEndOfWhatGoes(t *testing.T) {
	pod := events.Ref{Resource: "pods", Namespace: "default", Name: "a"}
	all := events.Ref{Resource: "pods"}
	for _, c := range []struct {
		name, metadata string
		want           []events.Ref
	}{
		{"stays", `{"name":"a","namespace":"default"}`, []events.Ref{all}},
		{"goes", `{"deletionTimestamp":"2026-01-01T00:00:00Z","name":"a","namespace":"default"}`, []events.Ref{pod}},
	} {
		for _, fact := range []string{"pod.succeeded", "pod.failed", "pod.status-updated"} {
			doc := `{"apiVersion":"v1","kind":"Pod","metadata":` + c.metadata + `,"status":{"phase":"Succeeded"}}`
			e := projections.NewEntry(pod, "u1", 1, 2, []byte(doc))
			change := projections.Change{After: e, Event: &events.Event{Type: fact, Object: pod}}
			got := podgc.New(podgc.Options{}).Concerns(runner.View{}, change)
			if !slices.Equal(got, c.want) {
				t.Errorf("%s of a pod that %s concerns %v, not %v", fact, c.name, got, c.want)
			}
		}
	}
}
