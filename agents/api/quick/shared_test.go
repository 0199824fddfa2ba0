package quick_test

import (
	"encoding/json"
	"math/rand"
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/reprise-run/reprise/agents/api/quick"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/kindtest"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestSharedObjectsAreUpstreams makes objects of every kind that upstream stores, at
// random, and has each become another a few times: what is made of what others have
// decoded is what upstream would have read, and changes nothing of what they have.
func TestSharedObjectsAreUpstreams(t *testing.T) {
	fill := kindtest.Filler(1)
	tried := 0
	for kind, version := range kindtest.Stored(t) {
		example, err := legacyscheme.Scheme.New(kind)
		must(t, err)
		codec := legacyscheme.Codecs.LegacyCodec(version)
		shared, err := quick.NewShared(&storagebackend.ConfigForResource{Config: storagebackend.Config{Codec: codec, EncodeVersioner: version}}, example)
		if err != nil {
			t.Logf("%s in %s is not shared: %v", kind.Kind, version, err)
			continue
		}
		var docs [][]byte
		for range 6 {
			o, err := legacyscheme.Scheme.New(kind)
			must(t, err)
			fill.Fill(o)
			raw, err := runtime.Encode(codec, o)
			must(t, err)
			doc, err := events.Canonical(raw)
			must(t, err)
			docs = append(docs, doc)
		}
		share(t, shared, codec, docs)
		tried += len(docs)
	}
	if tried < 500 {
		t.Errorf("only %d objects were tried", tried)
	}
}

// share has one object be as each document says in turn.
func share(t *testing.T, shared *quick.Shared, codec runtime.Codec, docs [][]byte) {
	t.Helper()
	ref := events.Ref{Resource: "things", Namespace: "shop", Name: "one"}
	h, s := projectionstest.NewHistory(), projections.NewState()
	h.Create(ref, string(docs[0]))
	var all []*projections.Entry
	var wanted []runtime.Object
	for i := range docs {
		if i > 0 {
			patch, err := events.Diff(docs[i-1], docs[i])
			must(t, err)
			if patch == nil {
				continue
			}
			h.Update(ref, string(patch))
		}
		_, err := s.Fold(h.Events)
		must(t, err)
		e := s.View().Get(ref)
		want, err := runtime.Decode(codec, e.Raw)
		must(t, err)
		for range 2 { // the second time it is known
			got, err := shared.Share(e)
			must(t, err)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("it is shared as\n%#v\nand read by upstream as\n%#v\n%s", got, want, e.Raw)
			}
		}
		all, wanted = append(all, e), append(wanted, want)
	}
	for i, e := range all { // when newer versions are known
		got, err := shared.Share(e)
		must(t, err)
		if !reflect.DeepEqual(got, wanted[i]) {
			t.Fatalf("an older version is shared as\n%#v\nand read by upstream as\n%#v\n%s", got, wanted[i], e.Raw)
		}
	}
	for _, e := range all {
		must(t, e.Intact())
	}
}

// What a status tells of resources is rounded in what is shared, and not in what others have.
func TestResourcesOfAStatusAreRoundedElsewhere(t *testing.T) {
	codec := legacyscheme.Codecs.LegacyCodec(v1.SchemeGroupVersion)
	shared, err := quick.NewShared(&storagebackend.ConfigForResource{Config: storagebackend.Config{Codec: codec, EncodeVersioner: v1.SchemeGroupVersion}}, &core.Pod{})
	must(t, err)
	e := projections.NewEntry(events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}, "u", 1, 1,
		[]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"status":{"allocatedResources":{"cpu":"100u"},"containerStatuses":[{"allocatedResources":{"cpu":"200u"},"name":"c"}]}}`))
	got, err := shared.Share(e)
	must(t, err)
	status := projections.As[v1.Pod](e).Status
	for what, told := range map[string]v1.ResourceList{"100u": status.AllocatedResources, "200u": status.ContainerStatuses[0].AllocatedResources} {
		if cpu := told[v1.ResourceCPU]; cpu.String() != what {
			t.Errorf("the status says %s, and those who share it read %s", what, &cpu)
		}
	}
	if cpu := got.(*core.Pod).Status.AllocatedResources[core.ResourceCPU]; cpu.String() != "1m" {
		t.Errorf("upstream holds %s, which is not rounded", &cpu)
	}
}

// TestSharedPods changes parts of pods, which are checked for what upstream would fill
// in only where it may.
func TestSharedPods(t *testing.T) {
	fill := kindtest.Filler(2)
	codec := legacyscheme.Codecs.LegacyCodec(v1.SchemeGroupVersion)
	r := rand.New(rand.NewSource(3))
	for range 60 {
		shared, err := quick.NewShared(&storagebackend.ConfigForResource{Config: storagebackend.Config{Codec: codec, EncodeVersioner: v1.SchemeGroupVersion}}, &core.Pod{})
		must(t, err)
		var pod core.Pod
		fill.Fill(&pod)
		var docs [][]byte
		for range 12 {
			var other core.Pod
			fill.Fill(&other)
			other.GenerateName = pod.GenerateName // pods of one make
			switch r.Intn(6) {
			case 0:
				pod.Spec = other.Spec
			case 1:
				pod.ObjectMeta = other.ObjectMeta
			case 2:
				pod.Spec.NodeName = other.Spec.NodeName
			default:
				pod.Status = other.Status
			}
			raw, err := runtime.Encode(codec, &pod)
			must(t, err)
			if r.Intn(3) == 0 { // as a node writes it, which knows of no list of addresses
				var o v1.Pod
				must(t, json.Unmarshal(raw, &o))
				o.Status.PodIPs, o.Status.PodIP = nil, []string{"", "10.0.0.1"}[r.Intn(2)]
				raw, err = json.Marshal(&o)
				must(t, err)
			}
			doc, err := events.Canonical(raw)
			must(t, err)
			docs = append(docs, doc)
		}
		share(t, shared, codec, docs)
	}
}
