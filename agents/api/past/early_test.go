package past_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/controlplane" // installs upstream's scheme

	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/events"
)

// stored are upstream's options of a resource whose objects are stored as v1.
type stored struct{}

func (stored) GetRESTOptions(schema.GroupResource, runtime.Object) (generic.RESTOptions, error) {
	v1 := schema.GroupVersion{Version: "v1"}
	return generic.RESTOptions{StorageConfig: &storagebackend.ConfigForResource{Config: storagebackend.Config{
		Codec: legacyscheme.Codecs.LegacyCodec(v1), EncodeVersioner: v1,
	}}}, nil
}

// TestObjectsAreTakenOnce decodes early what can be, and leaves the rest, and what is
// asked for twice, to upstream.
func TestObjectsAreTakenOnce(t *testing.T) {
	e := past.NewEarly(stored{})
	o, err := e.GetRESTOptions(schema.GroupResource{Resource: "configmaps"}, &core.ConfigMap{})
	must(t, err)
	codec, into := o.StorageConfig.Codec, &core.ConfigMap{}
	good, bad := []byte(`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"b"}}`), []byte(`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":7}}`)
	forget := e.Decode(events.Ref{Resource: "configmaps"}, good, bad)
	if n := e.Waiting(); n != 1 {
		t.Errorf("%d objects are decoded", n)
	}
	first, _, err := codec.Decode(good, nil, into)
	if err != nil || first == runtime.Object(into) || first.(*core.ConfigMap).Data["a"] != "b" {
		t.Errorf("what was decoded comes as %v, %v", first, err)
	}
	second, _, err := codec.Decode(good, nil, into)
	if err != nil || second != runtime.Object(into) || into.Data["a"] != "b" {
		t.Errorf("a second time it comes as %v, %v", second, err)
	}
	if _, _, err := codec.Decode(bad, nil, into); err == nil {
		t.Error("what is wrong is read without an error")
	}
	e.Decode(events.Ref{Resource: "configmaps"}, good)
	forget()
	if n := e.Waiting(); n != 0 {
		t.Errorf("%d objects are kept that nobody asked for", n)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
