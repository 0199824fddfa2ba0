package scheduler

import (
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// A status is seen at once to change nothing about what a pod takes up; what may
// change it is added up.
func TestAsksAlike(t *testing.T) {
	h, s := projectionstest.NewHistory(), projections.NewState()
	ref := events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}
	h.Create(ref, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop","uid":"u"},`+
		`"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}]},"status":{"phase":"Pending"}}`)
	see := func() *v1.Pod {
		if _, err := s.Fold(h.Events); err != nil {
			t.Fatal(err)
		}
		return projections.As[v1.Pod](s.View().Get(ref))
	}
	before := see()
	for _, c := range []struct {
		patch string
		alike bool
	}{
		{`[{"op":"replace","path":"/status/phase","value":"Running"}]`, true},
		{`[{"op":"add","path":"/status/containerStatuses","value":[{"name":"c","image":"","imageID":"","lastState":{},"ready":true,"restartCount":0,"state":{}}]}]`, true},
		{`[{"op":"add","path":"/spec/nodeName","value":"n1"}]`, true},
		{`[{"op":"add","path":"/status/containerStatuses/0/allocatedResources","value":{"cpu":"2"}}]`, false},
		{`[{"op":"replace","path":"/status/phase","value":"Pending"}]`, false},
		{`[{"op":"remove","path":"/status/containerStatuses"}]`, false},
		{`[{"op":"replace","path":"/spec/containers/0/resources/requests/cpu","value":"3"}]`, false},
		{`[{"op":"add","path":"/spec/overhead","value":{"cpu":"1"}}]`, false},
	} {
		h.Update(ref, c.patch)
		after := see()
		if got := asksAlike(before, after); got != c.alike {
			t.Errorf("after %s it asks alike: %t", c.patch, got)
		} else if got && !reflect.DeepEqual(requestsOf(before), requestsOf(after)) {
			t.Errorf("after %s it asks alike, for %v and %v", c.patch, requestsOf(before), requestsOf(after))
		}
		before = after
	}
}
