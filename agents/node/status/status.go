// Package status computes what a node reports of a pod: its status as Kubernetes
// knows it, and the facts, one after the other, that lead there from what was
// reported before. The node agent calls it after each look at the runtime and
// proposes the facts.
//
// It is pure: it never reads a clock, asks the runtime, or reports anything
// itself.
package status

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"

	"github.com/reprise-run/reprise/agents/node/plan"
)

// Compute returns the status of a pod that the cluster has, on a node with the
// addresses hosts. It shares with the pod what is the same: nobody may change it.
func Compute(p plan.Pod, hosts []string, now time.Time) v1.PodStatus {
	pod := p.Desired
	st := pod.Status
	st.ObservedGeneration = pod.Generation
	if st.StartTime == nil {
		st.StartTime = stamp(now)
	}
	if st.QOSClass == "" {
		st.QOSClass = qos.ComputePodQOS(pod)
	}
	addresses(&st, p, hosts)

	end := plan.Ending(p, now)
	spec := &pod.Spec
	initial := len(spec.InitContainers) > 0 && !plan.Initialized(p)
	c := composer{Pod: p, end: end, now: now, initializing: initial}
	st.InitContainerStatuses = c.all(spec.InitContainers, pod.Status.InitContainerStatuses)
	st.ContainerStatuses = c.all(spec.Containers, pod.Status.ContainerStatuses)
	var debuggers []v1.Container
	for i := range spec.EphemeralContainers {
		debuggers = append(debuggers, v1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	st.EphemeralContainerStatuses = c.all(debuggers, pod.Status.EphemeralContainerStatuses)

	if !final(st.Phase) {
		st.Phase = phase(p, &st, end)
		if end != nil && st.Phase == v1.PodFailed && end.Phase == v1.PodFailed {
			st.Reason, st.Message = end.Reason, end.Message
		}
	}
	conditions(&st, p, now)
	return st
}

func final(phase v1.PodPhase) bool { return phase == v1.PodSucceeded || phase == v1.PodFailed }

// phase is Succeeded or Failed only once nothing of the pod runs any more.
func phase(p plan.Pod, st *v1.PodStatus, end *plan.End) v1.PodPhase {
	if end != nil {
		if running(p) {
			return orPending(p.Desired.Status.Phase)
		}
		if end.Phase != "" {
			return end.Phase
		}
		return ended(st, p.Desired.Status.Phase)
	}
	if !plan.Initialized(p) {
		// A pod that takes a new sandbox initializes again, but stays Running.
		return orPending(p.Desired.Status.Phase)
	}
	for i := range st.ContainerStatuses {
		c := &st.ContainerStatuses[i]
		if c.State.Waiting != nil && c.LastTerminationState.Terminated == nil {
			return orPending(p.Desired.Status.Phase)
		}
	}
	return v1.PodRunning
}

// ended is the phase of a pod that was stopped from outside: how its containers
// took it. One whose containers never ran stays what it was.
func ended(st *v1.PodStatus, before v1.PodPhase) v1.PodPhase {
	result := v1.PodSucceeded
	for i := range st.ContainerStatuses {
		t := st.ContainerStatuses[i].State.Terminated
		switch {
		case t == nil:
			return orPending(before)
		case t.ExitCode != 0:
			result = v1.PodFailed
		}
	}
	return result
}

func orPending(phase v1.PodPhase) v1.PodPhase {
	if phase == "" {
		return v1.PodPending
	}
	return phase
}

func running(p plan.Pod) bool {
	for i := range p.Containers {
		if p.Containers[i].State == plan.Running {
			return true
		}
	}
	return false
}

// addresses fills in where the pod is. A pod keeps its addresses when its
// sandbox has gone, until it has another.
func addresses(st *v1.PodStatus, p plan.Pod, hosts []string) {
	if len(hosts) > 0 && !slices.EqualFunc(st.HostIPs, hosts, func(h v1.HostIP, ip string) bool { return h.IP == ip }) {
		st.HostIPs = nil
		for _, ip := range hosts {
			st.HostIPs = append(st.HostIPs, v1.HostIP{IP: ip})
		}
	}
	if len(hosts) > 0 {
		st.HostIP = hosts[0]
	}
	sandbox := p.Current()
	if sandbox == nil {
		return
	}
	ips := sandbox.IPs
	if p.Desired.Spec.HostNetwork {
		ips = hosts
	}
	if len(ips) == 0 {
		return
	}
	st.PodIP = ips[0]
	if slices.EqualFunc(st.PodIPs, ips, func(p v1.PodIP, ip string) bool { return p.IP == ip }) {
		return
	}
	st.PodIPs = nil
	for _, ip := range ips {
		st.PodIPs = append(st.PodIPs, v1.PodIP{IP: ip})
	}
}

// stamp is a time as the Kubernetes API carries it, to the second.
func stamp(t time.Time) *metav1.Time {
	m := at(t)
	return &m
}

func at(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}
