package projections_test

import (
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

func TestCheckShape(t *testing.T) {
	pod := events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}
	node := events.Ref{Resource: "nodes", Name: "n1"}
	lease := events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n1"}
	for _, c := range []struct {
		object events.Ref
		data   string
		fits   bool
	}{
		{pod, string(events.Removal()), true},
		{pod, `[{"op":"add","path":"/status","value":{"phase":"Running"}}]`, true},
		{pod, `[{"op":"replace","path":"/status/containerStatuses/0/state","value":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}]`, true},
		{pod, `[{"op":"add","path":"/status/containerStatuses/-","value":{"name":"c"}}]`, true},
		{pod, `[{"op":"replace","path":"/status/startTime","value":"2026-01-01T00:00:00Z"}]`, true},
		{pod, `[{"op":"replace","path":"/status/containerStatuses/0/state/terminated/exitCode","value":137}]`, true},
		{pod, `[{"op":"remove","path":"/status/message"}]`, true},
		{node, `[{"op":"replace","path":"/status/capacity/cpu","value":"2"}]`, true},
		{node, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"},"status":{"capacity":{"cpu":"2"}}}`, true},
		{lease, `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}}`, true},

		{pod, `[{"op":"add","path":"/status","value":5}]`, false},
		{pod, `[{"op":"add","path":"/status/phase","value":{}}]`, false},
		{pod, `[{"op":"add","path":"/status/Phase","value":"Running"}]`, false},
		{pod, `[{"op":"add","path":"/status/containerStatuses","value":{}}]`, false},
		{pod, `[{"op":"add","path":"/status/containerStatuses/0/restartCount","value":1.5}]`, false},
		{pod, `[{"op":"add","path":"/status/startTime","value":"yesterday"}]`, false},
		{pod, `[{"op":"add","path":"/status/startTime/x","value":1}]`, false},
		{pod, `[{"op":"add","path":"/metadata/generation","value":"x"}]`, false},
		{node, `[{"op":"replace","path":"/status/capacity/cpu","value":"many"}]`, false},
		{node, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"n1"}}`, false},
		{node, `{"apiVersion":"v1","kind":"Node","metadata":{"labels":5}}`, false},
		{events.Ref{Resource: "secrets", Namespace: "shop", Name: "s"}, `{"kind":"Secret"}`, false},
	} {
		ops, _ := events.ParsePatch([]byte(c.data)) // none of a whole object
		err := projections.CheckShape(events.Change{Object: c.object, Data: []byte(c.data)}, ops)
		if (err == nil) != c.fits {
			t.Errorf("%s %s: %v", c.object, c.data, err)
		}
	}
}
