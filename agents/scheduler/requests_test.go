package scheduler

import (
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

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

// Pods that are seen at once to take up the same do.
func TestPodsAskAlike(t *testing.T) {
	always, other := v1.ContainerRestartPolicyAlways, v1.ContainerRestartPolicyAlways
	of := func(change func(p *v1.Pod, c *v1.Container)) *v1.Pod {
		p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1"), v1.ResourceMemory: resource.MustParse("1Gi")},
		}}}}}
		change(p, &p.Spec.Containers[0])
		return p
	}
	first := func(always *v1.ContainerRestartPolicy) *v1.Pod {
		return of(func(p *v1.Pod, c *v1.Container) {
			p.Spec.InitContainers = []v1.Container{*c.DeepCopy()}
			p.Spec.InitContainers[0].RestartPolicy = always
		})
	}
	pods := []*v1.Pod{
		of(func(*v1.Pod, *v1.Container) {}),
		of(func(p *v1.Pod, c *v1.Container) { p.Name, c.Name, c.Image = "p", "d", "web" }),
		of(func(_ *v1.Pod, c *v1.Container) { c.Resources.Requests[v1.ResourceCPU] = resource.MustParse("1000m") }),
		of(func(_ *v1.Pod, c *v1.Container) { c.Resources.Requests[v1.ResourceCPU] = resource.MustParse("1001m") }),
		of(func(_ *v1.Pod, c *v1.Container) { c.Resources.Requests["example.com/gpu"] = resource.MustParse("1") }),
		of(func(_ *v1.Pod, c *v1.Container) { delete(c.Resources.Requests, v1.ResourceMemory) }),
		of(func(_ *v1.Pod, c *v1.Container) { c.Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 80}} }),
		of(func(p *v1.Pod, c *v1.Container) { p.Spec.Containers = append(p.Spec.Containers, *c) }),
		of(func(p *v1.Pod, _ *v1.Container) {
			p.Spec.Overhead = v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}
		}),
		of(func(p *v1.Pod, c *v1.Container) {
			p.Spec.Resources = &v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("3")}}
		}),
		first(nil), first(&always), first(&other),
	}
	alike := map[[2]int]bool{{0, 1}: true, {0, 2}: true, {1, 2}: true, {11, 12}: true}
	for i, a := range pods {
		for j, b := range pods[i+1:] {
			j += i + 1
			if got := asksAlike(a, b); got != alike[[2]int{i, j}] {
				t.Errorf("pods %d and %d ask alike: %v", i, j, got)
			}
			if x, y := requestsOf(a), requestsOf(b); alike[[2]int{i, j}] && !reflect.DeepEqual(x, y) {
				t.Errorf("pods %d and %d take up %+v and %+v", i, j, x, y)
			}
		}
	}
}
