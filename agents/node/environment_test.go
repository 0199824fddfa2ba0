package node

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Pods are told where the services are as they are, though the variables of many pods are
// the same.
func TestVariablesOfServices(t *testing.T) {
	state, sequence := projections.NewState(), uint64(0)
	put := func(namespace, name, address string) {
		sequence++
		ref := events.Ref{Resource: "services", Namespace: namespace, Name: name}
		state.Put(projections.NewEntry(ref, name, 1, sequence, fmt.Appendf(nil,
			`{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"namespace":%q},"spec":{"clusterIP":%q,"ports":[{"port":80,"protocol":"TCP","targetPort":80}]}}`, name, namespace, address)))
	}
	var a Agent
	hosts := func(namespace string, links bool) (out []string) {
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Spec: v1.PodSpec{EnableServiceLinks: &links}}
		all := a.services(pod, state.View())
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if len(name) > 5 && name[len(name)-5:] == "_HOST" {
				out = append(out, name+"="+all[name])
			}
		}
		return out
	}
	put("default", "kubernetes", "10.0.0.1")
	put("shop", "db", "10.0.0.2")
	put("shop", "headless", "None")
	const api = "KUBERNETES_SERVICE_HOST=10.0.0.1"
	for _, c := range []struct {
		what      string
		do        func()
		namespace string
		links     bool
		want      []string
	}{
		{"the namespace's", func() {}, "shop", true, []string{"DB_SERVICE_HOST=10.0.0.2", api}},
		{"the same again", func() {}, "shop", true, []string{"DB_SERVICE_HOST=10.0.0.2", api}},
		{"a pod without", func() {}, "shop", false, []string{api}},
		{"another namespace", func() {}, "bank", true, []string{api}},
		{"another address", func() { put("shop", "db", "10.0.0.3") }, "shop", true, []string{"DB_SERVICE_HOST=10.0.0.3", api}},
		{"one more", func() { put("shop", "cache", "10.0.0.4") }, "shop", true,
			[]string{"CACHE_SERVICE_HOST=10.0.0.4", "DB_SERVICE_HOST=10.0.0.3", api}},
		{"one less", func() { state.Remove(events.Ref{Resource: "services", Namespace: "shop", Name: "db"}) }, "shop", true,
			[]string{"CACHE_SERVICE_HOST=10.0.0.4", api}},
	} {
		c.do()
		if got := hosts(c.namespace, c.links); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
