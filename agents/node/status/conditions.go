package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/node/plan"
)

// conditions brings the conditions that are the node's own up to date and leaves
// the others as they are.
func conditions(st *v1.PodStatus, p plan.Pod, now time.Time) {
	const own = 5
	was := st.Conditions
	st.Conditions = append(make([]v1.PodCondition, 0, max(len(was), own)), was...)
	set := func(typ v1.PodConditionType, ok bool, reason, message string) {
		setCondition(st, typ, ok, reason, message, now)
	}
	set(v1.PodScheduled, true, "", "")
	sandbox := p.Current()
	// A pod that has ended starts nothing, though its sandbox may still be there.
	set(v1.PodReadyToStartContainers, sandbox != nil && !final(st.Phase) &&
		(p.Desired.Spec.HostNetwork || len(sandbox.IPs) > 0), "", "")

	reason, message := initialized(st, p)
	set(v1.PodInitialized, reason == "", reason, message)
	reason, message = containersReady(st, p)
	set(v1.ContainersReady, reason == "", reason, message)
	if reason == "" {
		reason, message = gatesOpen(st, p.Desired)
	}
	set(v1.PodReady, reason == "", reason, message)
	if slices.Equal(st.Conditions, was) {
		st.Conditions = was
	}
}

func setCondition(st *v1.PodStatus, typ v1.PodConditionType, ok bool, reason, message string, now time.Time) {
	value := v1.ConditionFalse
	if ok {
		value = v1.ConditionTrue
	}
	for i := range st.Conditions {
		c := &st.Conditions[i]
		if c.Type != typ {
			continue
		}
		if c.Status != value {
			c.Status, c.LastTransitionTime = value, at(now)
		}
		c.Reason, c.Message = reason, message
		return
	}
	st.Conditions = append(st.Conditions, v1.PodCondition{
		Type: typ, Status: value, Reason: reason, Message: message, LastTransitionTime: at(now),
	})
}

// initialized gives the reason why the pod is not, or none.
func initialized(st *v1.PodStatus, p plan.Pod) (reason, message string) {
	if st.Phase == v1.PodSucceeded {
		return "", ""
	}
	if final(st.Phase) && st.ContainerStatuses != nil && ran(st) || plan.Initialized(p) {
		return "", ""
	}
	var not []string
	for i := range st.InitContainerStatuses {
		c := &st.InitContainerStatuses[i]
		if !c.Ready && (c.Started == nil || !*c.Started) {
			not = append(not, c.Name)
		}
	}
	if len(not) == 0 {
		return "", ""
	}
	return "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(not, " "))
}

// ran says whether a container of the pod itself ever had a process.
func ran(st *v1.PodStatus) bool {
	for i := range st.ContainerStatuses {
		if st.ContainerStatuses[i].ContainerID != "" {
			return true
		}
	}
	return false
}

// containersReady gives the reason why the pod's containers are not, or none.
func containersReady(st *v1.PodStatus, p plan.Pod) (reason, message string) {
	switch st.Phase {
	case v1.PodSucceeded:
		return "PodCompleted", ""
	case v1.PodFailed:
		return "PodFailed", ""
	}
	var not []string
	for i := range p.Desired.Spec.InitContainers {
		spec := &p.Desired.Spec.InitContainers[i]
		if plan.Sidecar(spec) && !ready(st.InitContainerStatuses, spec.Name) {
			not = append(not, spec.Name)
		}
	}
	for i := range st.ContainerStatuses {
		if c := &st.ContainerStatuses[i]; !c.Ready {
			not = append(not, c.Name)
		}
	}
	if len(not) == 0 {
		return "", ""
	}
	message = fmt.Sprintf("containers with unready status: [%s]", strings.Join(not, " "))
	return "ContainersNotReady", message + unready(st, p, message)
}

// unready is what readiness probes said of the containers that the message names.
// A restarted agent does not know, and keeps to what was told.
func unready(st *v1.PodStatus, p plan.Pod, message string) string {
	var said []string
	for _, list := range lists(st) {
		for i := range *list {
			id, found := strings.CutPrefix((*list)[i].ContainerID, ContainerIDPrefix)
			if probe := p.Probes[id]; found && probe.Unready != "" {
				said = append(said, fmt.Sprintf("%s: readiness probe: %s", (*list)[i].Name, probe.Unready))
			}
		}
	}
	if len(said) > 0 {
		return "; " + strings.Join(said, "; ")
	}
	if moved(st, &p.Desired.Status) {
		return ""
	}
	for i := range p.Desired.Status.Conditions {
		if c := &p.Desired.Status.Conditions[i]; c.Type == v1.ContainersReady {
			if told, same := strings.CutPrefix(c.Message, message); same {
				return told
			}
		}
	}
	return ""
}

// moved says whether a container has ended or started since it was last told of.
func moved(now, before *v1.PodStatus) bool {
	for _, list := range lists(now) {
		for i := range *list {
			c := &(*list)[i]
			if was := find(before, c.Name); was == nil || was.ContainerID != c.ContainerID || (was.State.Running == nil) != (c.State.Running == nil) {
				return true
			}
		}
	}
	return false
}

func ready(statuses []v1.ContainerStatus, name string) bool {
	for i := range statuses {
		if statuses[i].Name == name {
			return statuses[i].Ready
		}
	}
	return false
}

// gatesOpen gives the reason why a readiness gate of the pod is closed, or none.
func gatesOpen(st *v1.PodStatus, pod *v1.Pod) (reason, message string) {
	var closed []string
	for _, gate := range pod.Spec.ReadinessGates {
		open := false
		for i := range st.Conditions {
			c := &st.Conditions[i]
			open = open || c.Type == gate.ConditionType && c.Status == v1.ConditionTrue
		}
		if !open {
			closed = append(closed, fmt.Sprintf("corresponding condition of pod readiness gate %q is not \"True\"", gate.ConditionType))
		}
	}
	if len(closed) == 0 {
		return "", ""
	}
	return "ReadinessGatesNotReady", strings.Join(closed, ", ")
}
