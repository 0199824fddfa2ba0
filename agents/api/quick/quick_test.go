package quick_test

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/reprise-run/reprise/agents/api/quick"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/kindtest"
)

// TestQuickReaderAgreesWithUpstream makes objects of every kind that upstream stores,
// at random, and reads them as upstream does and quickly.
func TestQuickReaderAgreesWithUpstream(t *testing.T) {
	fill := kindtest.Filler(1)
	tried := 0
	for kind, version := range kindtest.Stored(t) {
		example, err := legacyscheme.Scheme.New(kind)
		must(t, err)
		reader, err := quick.NewDecoder(version, example)
		must(t, err)
		brief, err := quick.NewBriefDecoder(version, example)
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
			got, _, err := reader.Decode(raw, nil, into)
			if err != nil || got != into {
				t.Fatalf("%s in %s: %v\n%s", kind, version, err, raw)
			}
			if !apiequality.Semantic.DeepEqual(want, got) {
				t.Fatalf("%s in %s is read as\n%#v\nand by upstream as\n%#v\n%s", kind, version, got, want, raw)
			}
			raw, err = events.Canonical(raw)
			must(t, err)
			into, _ = legacyscheme.Scheme.New(kind)
			got, _, err = brief.Decode(raw, nil, into)
			if err != nil || got != into || !apiequality.Semantic.DeepEqual(want, got) {
				t.Fatalf("%s in %s is read briefly as (%v)\n%#v\nand by upstream as\n%#v\n%s", kind, version, err, got, want, raw)
			}
			tried++
		}
	}
	if tried < 1000 {
		t.Errorf("only %d objects were tried", tried)
	}
}

// stored are upstream's options of a resource whose objects are stored as v1.
type stored struct{}

func (stored) GetRESTOptions(schema.GroupResource, runtime.Object) (generic.RESTOptions, error) {
	return generic.RESTOptions{StorageConfig: &storagebackend.ConfigForResource{Config: storagebackend.Config{
		Codec: legacyscheme.Codecs.LegacyCodec(v1.SchemeGroupVersion), EncodeVersioner: v1.SchemeGroupVersion,
	}}}, nil
}

// TestUpstreamReadsTheRest reads what the quick reader does not take: another version
// or kind, another target, and what is wrong.
func TestUpstreamReadsTheRest(t *testing.T) {
	o, err := quick.Getter{RESTOptionsGetter: stored{}}.GetRESTOptions(schema.GroupResource{Resource: "configmaps"}, &core.ConfigMap{})
	must(t, err)
	codec := o.StorageConfig.Codec
	good := []byte(`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"b"}}`)
	into := &core.ConfigMap{}
	if got, _, err := codec.Decode(good, nil, into); err != nil || got != runtime.Object(into) || into.Data["a"] != "b" {
		t.Errorf("a ConfigMap is read as %v, %v", got, err)
	}
	if got, _, err := codec.Decode(good, nil, nil); err != nil || got.(*core.ConfigMap).Data["a"] != "b" {
		t.Errorf("a ConfigMap is read into nothing as %v, %v", got, err)
	}
	if _, _, err := codec.Decode([]byte(`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":7}}`), nil, &core.ConfigMap{}); err == nil || !strings.Contains(err.Error(), "data") {
		t.Errorf("what is wrong is read with %v", err)
	}
	if _, _, err := codec.Decode([]byte(`{"apiVersion":"v1","kind":"Secret"}`), nil, &core.ConfigMap{}); err == nil {
		t.Error("a Secret is read as a ConfigMap")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// somePod is a pod that runs, as it is stored.
var somePod = []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-01-01T00:00:00Z","generateName":"web-7c9-","labels":{"app":"web","pod-template-hash":"7c9"},"name":"web-7c9-x2x2x","namespace":"shop","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web-7c9","uid":"0c5b4f0e-5a0c-4b1e-9a57-6f3c6f6f7d10"}],"uid":"1c5b4f0e-5a0c-4b1e-9a57-6f3c6f6f7d11"},"spec":{"containers":[{"image":"img","imagePullPolicy":"Always","name":"c","resources":{"requests":{"cpu":"10m","memory":"16Mi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","volumeMounts":[{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access-4xz5l","readOnly":true}]}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"n1","preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300}],"volumes":[{"name":"kube-api-access-4xz5l","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}}]}}]},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","status":"True","type":"Ready"}],"phase":"Running","podIP":"10.128.0.2","podIPs":[{"ip":"10.128.0.2"}],"qosClass":"Burstable","startTime":"2026-01-01T00:00:00Z"}}`)

// BenchmarkDecode reads a pod as upstream does and quickly.
func BenchmarkDecode(b *testing.B) {
	upstream, _ := stored{}.GetRESTOptions(schema.GroupResource{Resource: "pods"}, nil)
	quickly, err := quick.Getter{RESTOptionsGetter: stored{}}.GetRESTOptions(schema.GroupResource{Resource: "pods"}, &core.Pod{})
	must(b, err)
	for name, codec := range map[string]runtime.Codec{"upstream": upstream.StorageConfig.Codec, "quick": quickly.StorageConfig.Codec} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := runtime.Decode(codec, somePod); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
