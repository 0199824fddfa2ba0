package runner_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Names once given must come out the same for ever, or a replay of the log
// decides otherwise than history did.
func TestNameSuffix(t *testing.T) {
	for _, c := range []struct {
		because uint64
		ordinal int
		want    string
	}{{1, 0, "qdn5t"}, {1, 1, "dxxdc"}, {3, 0, "vxcbp"}} {
		if got := runner.NameSuffix(c.because, c.ordinal); got != c.want {
			t.Errorf("suffix %d of cause %d is %s, want %s", c.ordinal, c.because, got, c.want)
		}
	}
	seen := map[string]bool{}
	for because := range uint64(50) {
		for ordinal := range 50 {
			seen[runner.NameSuffix(because, ordinal)] = true
		}
	}
	if len(seen) < 2495 {
		t.Errorf("2500 suffixes are only %d different ones", len(seen))
	}
}

// UpdatePart is a cheaper way to say what Update says.
func TestUpdatePartAgreesWithUpdate(t *testing.T) {
	two := int32(2)
	for _, after := range []apps.ReplicaSetStatus{
		{},
		{Replicas: 1},
		{Replicas: 3, ReadyReplicas: 3, ObservedGeneration: 7},
		{Replicas: 1, TerminatingReplicas: &two, Conditions: []apps.ReplicaSetCondition{{Type: "A/~b", Message: "<&>"}}},
	} {
		before := &apps.ReplicaSet{Status: apps.ReplicaSetStatus{Replicas: 1, AvailableReplicas: 1}}
		raw, err := json.Marshal(before)
		if err == nil {
			raw, err = events.Canonical(raw)
		}
		if err != nil {
			t.Fatal(err)
		}
		e := projections.NewEntry(events.Ref{Group: "apps", Resource: "replicasets", Namespace: "a", Name: "b"}, "u", 1, 2, raw)
		whole := before.DeepCopy()
		whole.Status = after
		want, some := runner.Update(e, "x.y", whole, 3)
		got, also := runner.UpdatePart(e, "x.y", "/status", before.Status, after, 3)
		if some != also || !bytes.Equal(got.Changes[0].Data, want.Changes[0].Data) {
			t.Errorf("UpdatePart says\n%s\nbut Update\n%s", got.Changes[0].Data, want.Changes[0].Data)
		}
	}
}

func TestCreationLikeIsTheCreation(t *testing.T) {
	creation := func(name string) runner.Command {
		d := &apps.Deployment{}
		d.Name, d.Namespace, d.GenerateName = name, "shop", "web-"
		return runner.Creation(events.Ref{Group: "apps", Resource: "deployments", Namespace: "shop", Name: name}, d, 7)
	}
	got, want := runner.CreationLike(creation("web-a"), `b"<`), creation(`b"<`)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %s, want %s", got.Body, want.Body)
	}
}

func BenchmarkCreations(b *testing.B) {
	d := &apps.Deployment{}
	d.Name, d.Namespace, d.Spec.Template.Spec.Containers = "web", "shop", []core.Container{{Name: "web", Image: "registry.example.com/web:1", Env: []core.EnvVar{{Name: "A", Value: "1"}}}}
	ref := events.Ref{Group: "apps", Resource: "deployments", Namespace: "shop", Name: "web"}
	first := runner.Creation(ref, d, 7)
	b.Run("encoded", func(b *testing.B) {
		for b.Loop() {
			runner.Creation(ref, d, 7)
		}
	})
	b.Run("alike", func(b *testing.B) {
		for b.Loop() {
			runner.CreationLike(first, "web-x")
		}
	})
}
