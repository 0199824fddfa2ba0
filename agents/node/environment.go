package node

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	"k8s.io/kubernetes/pkg/kubelet/envvars"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/agents/node/runtime"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// links are the variables that tell pods where some services are. Nobody may change them.
type links struct {
	services  []*projections.Entry
	variables map[string]string
}

// services are the variables that tell a pod where the services are: that of the
// API always, those of its namespace unless it does without. They are made anew when
// the services are not those of the last pod that asked.
func (a *Agent) services(pod *v1.Pod, view projections.Reader) map[string]string {
	var room [8]*projections.Entry
	list := room[:0]
	if e := view.Get(events.Ref{Resource: "services", Namespace: "default", Name: "kubernetes"}); e != nil {
		list = append(list, e)
	}
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		for e := range view.List("", "services", pod.Namespace) {
			if e.Ref.Namespace != "default" || e.Ref.Name != "kubernetes" {
				list = append(list, e)
			}
		}
	}
	if last := a.links.Load(); last != nil && slices.Equal(last.services, list) {
		return last.variables
	}
	made := &links{services: slices.Clone(list), variables: variables(list)}
	a.links.Store(made)
	return made.variables
}

// variables are those of services that have an address.
func variables(services []*projections.Entry) map[string]string {
	var list []*v1.Service
	for _, e := range services {
		s := projections.As[v1.Service](e)
		if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != v1.ClusterIPNone {
			list = append(list, s)
		}
	}
	out := map[string]string{}
	for _, v := range envvars.FromServices(list) {
		out[v.Name] = v.Value
	}
	return out
}

// podLimits are what all containers of a pod may use together. Where one has no
// limit the pod has none.
func podLimits(pod *v1.Pod) runtime.Limits {
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{})
	cpuLimited, memoryLimited := true, true
	for _, c := range specs(pod) {
		if c.Resources.Limits.Cpu().IsZero() {
			cpuLimited = false
		}
		if c.Resources.Limits.Memory().IsZero() {
			memoryLimited = false
		}
	}
	out := runtime.Limits{CPUShares: uint64(crispec.Shares(requests.Cpu().MilliValue()))}
	if cpuLimited {
		out.CPUQuota, out.CPUPeriod = crispec.Quota(limits.Cpu().MilliValue()), 100_000
	}
	if memoryLimited {
		out.Memory = limits.Memory().Value()
	}
	return out
}
