package past_test

import (
	"math/rand"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	kubefuzzer "k8s.io/kubernetes/pkg/api/testing"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/controlplane" // installs upstream's scheme

	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/events"
)

// TestQuickReaderAgreesWithUpstream makes objects of every kind that upstream stores,
// at random, and reads them as upstream does and as lists of the past are read.
func TestQuickReaderAgreesWithUpstream(t *testing.T) {
	fill := fuzzer.FuzzerFor(kubefuzzer.FuzzerFuncs, rand.NewSource(1), legacyscheme.Codecs)
	tried := 0
	for kind := range legacyscheme.Scheme.AllKnownTypes() {
		if kind.Version != runtime.APIVersionInternal {
			continue
		}
		example, err := legacyscheme.Scheme.New(kind)
		must(t, err)
		if _, ok := example.(metav1.ObjectMetaAccessor); !ok {
			continue
		}
		for _, version := range legacyscheme.Scheme.PrioritizedVersionsForGroup(kind.Group) {
			if !legacyscheme.Scheme.Recognizes(version.WithKind(kind.Kind)) {
				continue
			}
			quick, err := past.NewQuick(version, example)
			must(t, err)
			codec := legacyscheme.Codecs.LegacyCodec(version)
			for range 30 {
				o, err := legacyscheme.Scheme.New(kind)
				must(t, err)
				fill.Fill(o)
				raw, err := runtime.Encode(codec, o)
				must(t, err)
				want, err := runtime.Decode(codec, raw)
				must(t, err)
				into, _ := legacyscheme.Scheme.New(kind)
				got, _, err := quick.Decode(raw, nil, into)
				if err != nil || got != into {
					t.Fatalf("%s in %s: %v\n%s", kind, version, err, raw)
				}
				if !apiequality.Semantic.DeepEqual(want, got) {
					t.Fatalf("%s in %s is read as\n%#v\nand by upstream as\n%#v\n%s", kind, version, got, want, raw)
				}
				tried++
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d objects were tried", tried)
	}
}

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
