package podgc_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/controllers/podgc"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
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

// Pods and nodes come and go, and change, by chance.
func TestNamesWhatIsToBeDecided(t *testing.T) {
	uids := 0
	choose := func(r *rand.Rand, v runner.View) runnertest.Write {
		ref := events.Ref{Resource: "nodes", Name: fmt.Sprint("n", r.IntN(2))}
		kind := "Node"
		if r.IntN(3) > 0 {
			kind, ref = "Pod", events.Ref{Resource: "pods", Namespace: "shop", Name: fmt.Sprint("p", r.IntN(4))}
		}
		e := v.Get(ref)
		if e != nil && r.IntN(4) == 0 {
			return runnertest.Write{Object: ref}
		}
		meta, spec, status := map[string]any{"name": ref.Name}, map[string]any{}, map[string]any{}
		if e == nil {
			uids++
			meta["uid"] = fmt.Sprint("u", uids)
		} else {
			meta["uid"] = e.UID
		}
		if kind == "Node" {
			if r.IntN(2) == 0 {
				spec["taints"] = []any{map[string]any{"key": core.TaintNodeOutOfService, "effect": "NoExecute"}}
			}
			status["conditions"] = []any{map[string]any{"type": "Ready", "status": []string{"True", "Unknown"}[r.IntN(2)]}}
		} else {
			meta["namespace"] = "shop"
			if r.IntN(3) == 0 || e != nil && e.Meta().DeletionTimestamp != nil {
				meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
			}
			switch {
			case e != nil && e.Node() != "":
				spec["nodeName"] = e.Node()
			case r.IntN(2) == 0:
				spec["nodeName"] = fmt.Sprint("n", r.IntN(2))
			}
			if e != nil {
				status["phase"] = []string{"Pending", "Running", "Failed"}[r.IntN(3)]
			}
		}
		return runnertest.Write{Object: ref, Doc: map[string]any{"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec, "status": status}}
	}
	runnertest.Heard(t, podgc.New(podgc.Options{Ended: 1}), choose, events.Ref{Resource: "pods"})
}
