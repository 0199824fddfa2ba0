package projections

import (
	"encoding/json"
	"reflect"
	"testing"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
)

// running is what a node says of a pod whose container has started.
const running = `[{"op":"add","path":"/status/conditions","value":[{"lastProbeTime":null,"lastTransitionTime":"2026-01-02T03:04:05Z","status":"True","type":"Initialized"},{"lastProbeTime":null,"lastTransitionTime":"2026-01-02T03:04:06Z","observedGeneration":1,"status":"True","type":"Ready"}]},` +
	`{"op":"add","path":"/status/containerStatuses","value":[{"containerID":"containerd://8a1","image":"nginx","imageID":"sha256:1","lastState":{},"name":"web","ready":true,"resources":{"requests":{"cpu":"100m","memory":"64Mi"}},"restartCount":0,"started":true,"state":{"running":{"startedAt":"2026-01-02T03:04:06Z"}}}]},` +
	`{"op":"add","path":"/status/hostIP","value":"10.0.0.1"},{"op":"add","path":"/status/hostIPs","value":[{"ip":"10.0.0.1"}]},{"op":"replace","path":"/status/phase","value":"Running"},` +
	`{"op":"add","path":"/status/podIP","value":"10.42.0.7"},{"op":"add","path":"/status/podIPs","value":[{"ip":"10.42.0.7"}]},{"op":"add","path":"/status/startTime","value":"2026-01-02T03:04:05Z"}]`

// FuzzForm asserts that what a form says yes to the decoder takes.
func FuzzForm(f *testing.F) {
	ops, err := events.ParsePatch([]byte(running))
	if err != nil {
		f.Fatal(err)
	}
	for _, op := range ops {
		f.Add(op.Path, string(op.Value))
	}
	for path, values := range map[string][]string{
		"/status/phase":                         {`"x"`, `null`, `5`, `{}`, `true`, `"a\nb"`},
		"/status/startTime":                     {`"2026-01-02T03:04:05Z"`, `"2026-02-30T00:00:00Z"`, `"2026-01-02T03:04:05.6+01:00"`, `null`, `"\u0001"`, `5`},
		"/status/containerStatuses/0":           {`{"name":"c","restartCount":-3}`, `{"restartCount":2147483648}`, `{"restartCount":1.0}`, `{"restartCount":1e2}`, `{"NAME":"c"}`, `{"n\"":1}`, `{"odd":1}`, `[]`},
		"/status/containerStatuses/0/resources": {`{"requests":{"cpu":"1","memory":5}}`, `{"requests":{"cpu":"many"}}`, `{"claims":[{"name":"x"}]}`},
		"/metadata/labels":                      {`{"a":"b"}`, `{"a":null}`, `{"a":1}`},
		"/metadata/deletionGracePeriodSeconds":  {`30`, `-1`, `1234567890`, `null`},
		"/spec/containers/0/ports/0":            {`{"containerPort":80}`},
		"/spec/containers/0/readinessProbe":     {`{"httpGet":{"port":"http"}}`, `{"httpGet":{"port":80}}`, `{"httpGet":{"port":true}}`},
		"/spec/volumes/0":                       {`{"name":"x","emptyDir":{}}`, `{"secret":{"items":[null]}}`},
		"/status/startTime/x":                   {`1`},
		"":                                      {`{"metadata":{"managedFields":[{"fieldsV1":{"f:a":{}}}]}}`},
	} {
		for _, v := range values {
			f.Add(path, v)
		}
	}
	pod := lazily[core.Pod]()()
	f.Fuzz(func(t *testing.T, path, value string) {
		at, err := pod.at(path)
		if err != nil || !events.IsCanonical([]byte(value)) || !at.fits([]byte(value)) {
			return
		}
		if err := decodes([]byte(value), at.typ); err != nil {
			t.Errorf("%s fits %s, but: %v", value, at.typ, err)
		}
	})
}

// What nodes say all the time is not decoded to find out whether it could be.
func TestFormsFit(t *testing.T) {
	pod := lazily[core.Pod]()()
	ops, err := events.ParsePatch([]byte(running))
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if at, err := pod.at(op.Path); err != nil || !at.fits(op.Value) {
			t.Errorf("%s does not fit, %v", op.String(), err)
		}
	}
	lease := lazily[coordination.Lease]()()
	if !lease.fits([]byte(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"n1"},"spec":{"holderIdentity":"n1","leaseDurationSeconds":40,"renewTime":"2026-01-01T00:00:00.000000Z"}}`)) {
		t.Error("a lease does not fit")
	}
}

// TestFormsKnowAllFields compares the fields that a form has with those that the
// encoder writes.
func TestFormsKnowAllFields(t *testing.T) {
	for _, o := range []any{core.Pod{}, core.PodStatus{}, core.Node{}, core.Event{}, coordination.Lease{}} {
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		f := newForm(reflect.TypeOf(o), map[reflect.Type]*form{})
		for name := range events.Members(raw) {
			if f.fields[string(name[1:len(name)-1])] == nil {
				t.Errorf("a %T has no %s", o, name)
			}
		}
	}
}

// BenchmarkCheckShape measures what it costs to see that a node's word of a pod is
// of a pod's shape.
func BenchmarkCheckShape(b *testing.B) {
	c := events.Change{Type: "pod.started", Object: events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}, Data: []byte(running)}
	ops, err := events.ParsePatch(c.Data)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckShape(c, ops); err != nil {
			b.Fatal(err)
		}
	}
}
