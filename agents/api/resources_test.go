package api_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/client-go/discovery"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	"k8s.io/kubernetes/pkg/kubeapiserver"

	"github.com/reprise-run/reprise/agents/api/upstream"
	"github.com/reprise-run/reprise/events"
)

// everyResourceHasItsPlace compares the keys that the server understands with
// those that upstream's storage uses, for every resource that it serves.
func everyResourceHasItsPlace(t *testing.T, s *running) {
	lists, err := s.Discovery().ServerPreferredResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		t.Fatal(err)
	}
	c := kubeapiserver.NewStorageFactoryConfig()
	c.APIResourceConfig = controlplane.DefaultAPIResourceConfigSource()
	factory, err := c.Complete(genericoptions.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry", nil))).New()
	if err != nil {
		t.Fatal(err)
	}
	keys := upstream.Keys()
	stored, encoded := 0, 0
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range l.APIResources {
			if r.Name == "componentstatuses" {
				t.Error("ComponentStatuses are served, which can only be wrong")
			}
			if len(r.Verbs) < 3 { // reviews and bindings are not stored
				continue
			}
			ref := events.Ref{Group: gv.Group, Resource: r.Name, Name: "name"}
			if ref.Group == "events.k8s.io" {
				ref.Group = "" // they are stored as those of the core group
			}
			prefix := "/registry/" + factory.ResourcePrefix(schema.GroupResource{Group: gv.Group, Resource: r.Name})
			switch gv.Group {
			case "apiextensions.k8s.io", "apiregistration.k8s.io", "example.com":
				prefix = "/registry/" + gv.Group + "/" + r.Name
			}
			if canBeEncoded(t, factory, gv.Group, r) {
				encoded++
			}
			key := prefix + "/name"
			if r.Namespaced {
				ref.Namespace = "ns"
				key = prefix + "/ns/name"
			}
			stored++
			if got, ok := keys.Ref(key); !ok || got != ref {
				t.Errorf("%s is %v, want %v", key, got, ref)
			}
			if got := keys.Key(ref); got != key {
				t.Errorf("%v is kept under %s, but upstream uses %s", ref, got, key)
			}
		}
	}
	t.Logf("%d resources, %d of them built in", stored, encoded)
	if stored < 50 || encoded < 50 {
		t.Errorf("only %d resources are served, and only %d were encoded", stored, encoded)
	}
}

// canBeEncoded does for an empty object of a built-in resource what caches do not: it
// encodes it as it is stored. It says false of a resource that is not built in.
func canBeEncoded(t *testing.T, by serverstorage.StorageFactory, group string, r metav1.APIResource) bool {
	t.Helper()
	o, err := legacyscheme.Scheme.New(schema.GroupVersionKind{Group: group, Version: runtime.APIVersionInternal, Kind: r.Kind})
	if err != nil {
		return false // It is of the extensions' server or of the aggregator.
	}
	c, err := by.NewConfig(schema.GroupResource{Group: group, Resource: r.Name}, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := runtime.CheckCodec(c.Codec, o); err != nil {
		t.Errorf("%s cannot be stored: %v", r.Name, err)
	}
	return true
}
