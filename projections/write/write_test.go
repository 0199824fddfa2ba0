package write_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/kindtest"
	"github.com/reprise-run/reprise/projections/write"
)

// appends compares with encoding/json, to which upstream leaves what it answers.
func appends(t *testing.T, o any) {
	t.Helper()
	want, wrong := json.Marshal(o)
	got, err := write.Append([]byte("x"), o)
	if (err == nil) != (wrong == nil) {
		t.Fatalf("%T fails with %v, and in encoding/json with %v", o, err, wrong)
	}
	if err == nil && !bytes.Equal(got[1:], want) {
		t.Fatalf("%T reads\n%s\nand by encoding/json\n%s", o, got[1:], want)
	}
	got, err = write.Canonical([]byte("x"), o)
	if (err == nil) != (wrong == nil) {
		t.Fatalf("%T fails with %v, and in encoding/json with %v", o, err, wrong)
	}
	if err != nil {
		return
	}
	if want, err = events.Canonical(want); err != nil || !bytes.Equal(got[1:], want) {
		t.Fatalf("%T reads\n%s\nand is canonical as\n%s\n%v", o, got[1:], want, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAppendsAsUpstream makes objects of every kind, in every version, at random.
func TestAppendsAsUpstream(t *testing.T) {
	fill := kindtest.Filler(2)
	tried := 0
	for kind, version := range kindtest.Stored(t) {
		for range 30 {
			o, err := legacyscheme.Scheme.New(kind)
			must(t, err)
			fill.Fill(o)
			served, err := legacyscheme.Scheme.ConvertToVersion(o, version)
			must(t, err)
			appends(t, served)
			tried++
		}
	}
	if tried < 1000 {
		t.Errorf("only %d objects were tried", tried)
	}
}

// TestAppendsWhatIsUnusual has values that random objects are unlikely to have, and types
// that no kind has.
func TestAppendsWhatIsUnusual(t *testing.T) {
	type embedded struct {
		A string `json:"a"`
		B string `json:"b,omitempty"`
	}
	type hidden struct {
		embedded
		A int `json:"a"`
	}
	type twice struct {
		metav1.TypeMeta
		Kind string `json:"kind"`
	}
	type named struct {
		metav1.TypeMeta `json:"type"`
		Plain           string
		Not             string          `json:"-"`
		Dash            string          `json:"-,"`
		Quoted          int             `json:"quoted,string"`
		Odd             string          `json:"é"`
		Float           float64         `json:"float"`
		Any             any             `json:"any"`
		Raw             json.RawMessage `json:"raw,omitempty"`
		Zero            *metav1.Time    `json:"zero,omitzero"`
		Time            metav1.Time     `json:"time,omitzero"`
		Count           uint8           `json:"count,omitempty"`
		Array           [2]bool         `json:"array"`
		Named           map[v1.ResourceName]int
		private         string
	}
	texts := []string{"", "a", `"`, `\`, "<a>&", "\u2028\u2029", "\x00\x1f\x7f\n\t\r\b\f", "\xff\xfe", "é", "\U0001F600"}
	large := resource.MustParse("123456789012345678901234567890")
	for _, s := range texts {
		appends(t, &s)
		appends(t, &map[string]string{s: s, "b": "<", "a": s})
		appends(t, &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: s, Labels: map[string]string{s: s}, Annotations: map[string]string{}}})
		appends(t, &v1.ConfigMap{Data: map[string]string{s: s}, BinaryData: map[string][]byte{"nil": nil, "text": []byte(s)}})
		appends(t, &metav1.ManagedFieldsEntry{FieldsV1: &metav1.FieldsV1{Raw: []byte(`{ "f:` + s + `" : {} }`)}})
		appends(t, &named{Plain: s, Any: s, Odd: s, Quoted: 7, private: s, Dash: s, Not: s})
	}
	now := metav1.NewTime(time.Date(12026, 1, 2, 3, 4, 5, 678, time.FixedZone("z", 5400)))
	for _, o := range []any{
		&hidden{}, &hidden{embedded{"b", "c"}, 2}, &twice{Kind: "a"}, &named{}, &named{Zero: &metav1.Time{}, Time: now, Count: 3, Raw: json.RawMessage(" [ 1 ]")},
		&named{Raw: json.RawMessage("{")}, &metav1.FieldsV1{}, &metav1.FieldsV1{Raw: []byte("{")}, &metav1.FieldsV1{Raw: []byte(" {}")}, &now, new(*metav1.Time),
		&v1.ResourceList{}, &v1.ResourceList{"b": large, "a": resource.MustParse("1e3"), "": {}}, new(v1.ResourceList), &[]intstr.IntOrString{intstr.FromInt32(-1), intstr.FromString("<")},
		&v1.Secret{Data: map[string][]byte{"a": {}}}, &v1.PodList{}, &v1.PodList{Items: []v1.Pod{}}, &[]*int32{nil, new(int32)}, &[]byte{1}, new([]byte), new([]string), &[]string{},
		&metav1.WatchEvent{Object: runtime.RawExtension{Raw: []byte(`{"a": "<"}`)}}, &v1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}, Finalizers: []string{}}},
	} {
		appends(t, o)
		appends(t, o) // with what it has remembered
	}
}

// somePod is a pod that runs, as it is stored.
var somePod = []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-01-01T00:00:00Z","generateName":"web-7c9-","labels":{"app":"web","pod-template-hash":"7c9"},"name":"web-7c9-x2x2x","namespace":"shop","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web-7c9","uid":"0c5b4f0e-5a0c-4b1e-9a57-6f3c6f6f7d10"}],"uid":"1c5b4f0e-5a0c-4b1e-9a57-6f3c6f6f7d11"},"spec":{"containers":[{"image":"img","imagePullPolicy":"Always","name":"c","resources":{"requests":{"cpu":"10m","memory":"16Mi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","volumeMounts":[{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access-4xz5l","readOnly":true}]}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"n1","preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300}],"volumes":[{"name":"kube-api-access-4xz5l","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}}]}}]},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","status":"True","type":"Ready"}],"phase":"Running","podIP":"10.128.0.2","podIPs":[{"ip":"10.128.0.2"}],"qosClass":"Burstable","startTime":"2026-01-01T00:00:00Z"}}`)

// BenchmarkAppend writes a pod as upstream does and quickly.
func BenchmarkAppend(b *testing.B) {
	var pod v1.Pod
	must(b, json.Unmarshal(somePod, &pod))
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{}}}}}`)}}}
	for name, quickly := range map[string]func([]byte, any) ([]byte, error){"quick": write.Append, "canonical": write.Canonical} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var to []byte
			var err error
			for b.Loop() {
				to, err = quickly(to[:0], &pod)
				must(b, err)
			}
		})
	}
	var to bytes.Buffer
	b.Run("upstream", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			to.Reset()
			must(b, json.NewEncoder(&to).Encode(&pod))
		}
	})
	b.Run("upstream, made canonical", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			to.Reset()
			must(b, json.NewEncoder(&to).Encode(&pod))
			_, err := events.Canonical(to.Bytes())
			must(b, err)
		}
	})
}
