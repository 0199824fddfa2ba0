package recorder

import (
	"fmt"
	"testing"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

func TestTranscripts(t *testing.T) { runnertest.Run(t, "testdata", New()) }

// Who may create pods in his namespace has no notes told in another, whatever he says
// owns them.
func TestNobodyForgesNotes(t *testing.T) {
	const forged = "v1|Pod|kube-system|dns|u9|1||Warning|Evicted|kubelet|n1|7|forged"
	for part, owner := range map[string]string{
		"apiVersion": `"apiVersion":"` + forged + `/v1","controller":true,"kind":"ReplicaSet","name":"web","uid":"u1"`,
		"name":       `"apiVersion":"apps/v1","controller":true,"kind":"ReplicaSet","name":"` + forged + `","uid":"u1"`,
		"uid":        `"apiVersion":"apps/v1","controller":true,"kind":"ReplicaSet","name":"web","uid":"u1||||Evicted|kubelet||7|forged"`,
		"nothing":    `"apiVersion":"apps/v1","controller":true,"kind":"ReplicaSet","name":"web","uid":"u1"`,
	} {
		ref := events.Ref{Resource: "pods", Namespace: "shop", Name: "a"}
		e := projections.NewEntry(ref, "u2", 3, 3, fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"shop","ownerReferences":[{%s}],"uid":"u2"}}`, owner))
		v := runner.View{Reader: projections.NewState().View()}
		items := New().Concerns(v, projections.Change{After: e, Event: &events.Event{Sequence: 3, Type: "pod.created", Object: ref}})
		if some := len(items) > 0; some != (part == "nothing") {
			t.Errorf("with a bar in %s, the notes are %v", part, items)
		}
	}
}
