package garbage

import (
	"testing"

	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/reprise-run/reprise/agents/runner/runnertest"
)

func TestTranscripts(t *testing.T) { runnertest.Run(t, "testdata", New()) }

// A resource name that is guessed wrong would make owners look absent.
func TestBuiltInResources(t *testing.T) {
	odd := map[string]string{"Endpoints": "endpoints", "NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "StorageClass": "storageclasses", "Lease": "leases"}
	if _, _, known := builtIn(schema.GroupVersionKind{Group: "extensions", Version: "v1beta1", Kind: "ReplicaSet"}); known {
		t.Error("owners of a group that is served no more would look absent")
	}
	for gvk := range scheme.Scheme.AllKnownTypes() {
		if served := len(scheme.Scheme.VersionsForGroupKind(gvk.GroupKind())) > 0; registered()[gvk.GroupKind()] != served {
			t.Errorf("%v has a version that is served: %t, and is registered: %t", gvk, served, !served)
		}
	}
	for kind, want := range odd {
		found := false
		for gvk := range legacyscheme.Scheme.AllKnownTypes() {
			if gvk.Kind != kind || gvk.Version == "__internal" {
				continue
			}
			plural, _ := meta.UnsafeGuessKindToResource(gvk)
			resource, namespaced, known := builtIn(gvk)
			if resource != want || plural.Resource != want || !known || namespaced != (kind != "StorageClass") {
				t.Errorf("%v is taken for %q (namespaced %t, known %t)", gvk, resource, namespaced, known)
			}
			found = true
		}
		if !found {
			t.Errorf("there is no kind %s", kind)
		}
	}
}
