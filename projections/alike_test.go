package projections_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unsafe"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// What is shared with other objects is what an object's bytes say, and is decoded from
// the bytes that it was not decoded from before as from those that it was.
func TestPartsAreWhatTheBytesSay(t *testing.T) {
	t.Run("pods", parts[core.Pod]("pods"))
	t.Run("nodes", parts[core.Node]("nodes"))
	t.Run("deployments", parts[apps.Deployment]("deployments"))
}

func parts[T any](plural string) func(*testing.T) {
	return func(t *testing.T) {
		for seed := range uint64(200) {
			doc := document(t, random[T](seed%150))
			var want T
			if err := json.Unmarshal(doc, &want); err != nil {
				t.Fatal(err)
			}
			e := projections.NewEntry(events.Ref{Resource: plural, Name: "one"}, "1", 1, 1, doc)
			same(t, "object", projections.As[T](e), &want)
			if err := e.Intact(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Pods of one template share what they have in common, and who changes that is found out
// by each of them.
func TestSiblingsShare(t *testing.T) {
	sibling := func(name string) *projections.Entry {
		doc := strings.ReplaceAll(podDoc, "web-7c9-abcde", name)
		return projections.NewEntry(events.Ref{Resource: "pods", Namespace: "shop", Name: name}, name, 1, 1, []byte(doc))
	}
	a, b := sibling("web-7c9-a"), sibling("web-7c9-b")
	one, other := projections.As[core.Pod](a), projections.As[core.Pod](b)
	if one.Name == other.Name {
		t.Fatal("they have one name")
	}
	if unsafe.SliceData(one.OwnerReferences) != unsafe.SliceData(other.OwnerReferences) ||
		one.Spec.Volumes[0].Projected != other.Spec.Volumes[0].Projected || one.Spec.SecurityContext != other.Spec.SecurityContext {
		t.Fatal("they do not share what is the same")
	}
	for _, e := range []*projections.Entry{a, b} {
		if err := e.Intact(); err != nil {
			t.Fatal(err)
		}
	}
	if cap(one.Spec.Containers[0].VolumeMounts) != len(one.Spec.Containers[0].VolumeMounts) || cap(one.OwnerReferences) != len(one.OwnerReferences) {
		t.Error("who appends to a list of theirs writes into the other's")
	}
	one.Labels["app"] = "changed"
	defer func() { one.Labels["app"] = "web" }()
	for _, e := range []*projections.Entry{a, b} {
		if e.Intact() == nil {
			t.Errorf("%s does not see that its labels were changed", e.Ref)
		}
	}
}

// What a ConfigMap or a Secret says is remembered by nothing but itself.
func TestValuesAreNotShared(t *testing.T) {
	config := func(name string) map[string]string {
		e := projections.NewEntry(events.Ref{Resource: "configmaps", Namespace: "shop", Name: name}, name, 1, 1,
			[]byte(`{"data":{"a":"b"},"metadata":{"name":"`+name+`"}}`))
		return projections.As[core.ConfigMap](e).Data
	}
	one := config("one")
	one["a"] = "changed"
	if got := config("other")["a"]; got != "b" {
		t.Errorf("the other has %q of the first", got)
	}
}

// Parts lie within parts: what is shared already is not written to again when one around it
// comes to be shared. The race detector would tell.
func TestSharedPartsAreNotWritten(t *testing.T) {
	var readers sync.WaitGroup
	for i := range 64 {
		name := fmt.Sprint("web-", i)
		doc := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"shop","uid":%q},"spec":{"containers":[],"volumes":[{"name":%q,"projected":{"sources":[{"serviceAccountToken":{"path":"token"}}]}}]}}`, name, name, name)
		e := projections.NewEntry(events.Ref{Resource: "pods", Namespace: "shop", Name: name}, name, 1, 1, []byte(doc))
		readers.Go(func() {
			of := projections.As[core.Pod](e).Spec.Volumes[0].Projected
			if copied := *of; len(copied.Sources) != 1 || cap(copied.Sources) != 1 {
				t.Errorf("%s has %v", name, copied)
			}
		})
	}
	readers.Wait()
}
