package status

import (
	"encoding/json"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/reprise-run/reprise/agents/node/plan"
)

// Step is one fact about a pod: its type, the status after it, and what it has
// to say for people, as JSON. Statuses share what is the same in them with each other
// and with the pod: nobody may change them.
type Step struct {
	Type   string
	Status v1.PodStatus
	Note   []byte
}

// note tells which container a fact is about.
type note struct {
	Container string `json:"container"`
	// Killed is why the node ended the container before its time.
	Killed   string `json:"killed,omitempty"`
	Attempt  int32  `json:"attempt"`
	ExitCode *int32 `json:"exitCode,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// Steps returns the facts that lead from what was reported of a pod to how it is
// now: each end of a container that was not told yet by itself, even where
// another attempt runs already, then starts, then what became of the pod. It
// returns none if there is nothing new.
func Steps(p plan.Pod, after v1.PodStatus) []Step {
	s := &steps{now: p.Desired.Status, after: after, deleting: p.Desired.DeletionTimestamp != nil}
	s.begin()
	s.sandboxed()
	s.exits(p)
	for _, list := range lists(&s.after) {
		for i := range *list {
			s.started(&(*list)[i])
		}
	}
	for _, list := range lists(&s.after) {
		for i := range *list {
			s.waiting(&(*list)[i])
		}
	}
	s.rest()
	return s.out
}

// OnlySeen says whether all that facts tell, after what was reported, is which version
// of the pod's specification the node has seen.
func OnlySeen(reported v1.PodStatus, steps []Step) bool {
	if len(steps) != 1 || steps[0].Type != "pod.observed" {
		return false
	}
	reported.ObservedGeneration = steps[0].Status.ObservedGeneration
	return equal(&reported, &steps[0].Status)
}

// steps are in the making. What now leads to is shared: a list is copied before an
// element of it changes.
type steps struct {
	now, after v1.PodStatus
	deleting   bool
	out        []Step
}

// lists returns the lists of container statuses.
func lists(st *v1.PodStatus) []*[]v1.ContainerStatus {
	return []*[]v1.ContainerStatus{&st.InitContainerStatuses, &st.ContainerStatuses, &st.EphemeralContainerStatuses}
}

func (s *steps) add(typ string, n *note) {
	step := Step{Type: typ, Status: s.now}
	if n != nil {
		step.Note, _ = json.Marshal(n) // Strings and numbers always encode.
	}
	if s.out == nil {
		s.out = make([]Step, 0, 3) // mostly a sandbox, a container, and a pod that is ready
	}
	s.out = append(s.out, step)
}

// begin makes the containers that nothing was said of yet wait in their places.
func (s *steps) begin() {
	from, into := lists(&s.after), lists(&s.now)
	for i := range from {
		if slices.EqualFunc(*from[i], *into[i], func(a, b v1.ContainerStatus) bool { return a.Name == b.Name }) {
			continue
		}
		var list []v1.ContainerStatus
		for _, to := range *from[i] {
			st, known := podutil.GetContainerStatus(*into[i], to.Name)
			if !known {
				st = v1.ContainerStatus{Name: to.Name, Image: to.Image, Started: new(bool), State: waiting("ContainerCreating", "")}
			}
			list = append(list, st)
		}
		*into[i] = list
	}
}

// sandboxed tells that the pod has an address, and all that is known from the
// start.
func (s *steps) sandboxed() {
	ready := func(st *v1.PodStatus) bool {
		_, c := podutil.GetPodCondition(st, v1.PodReadyToStartContainers)
		return c != nil && c.Status == v1.ConditionTrue
	}
	if !ready(&s.after) || ready(&s.now) && slices.Equal(s.now.PodIPs, s.after.PodIPs) {
		return
	}
	a := &s.after
	s.now.PodIP, s.now.PodIPs, s.now.HostIP, s.now.HostIPs = a.PodIP, a.PodIPs, a.HostIP, a.HostIPs
	s.now.StartTime, s.now.QOSClass, s.now.ObservedGeneration = a.StartTime, a.QOSClass, a.ObservedGeneration
	if s.now.Phase == "" {
		s.now.Phase = v1.PodPending
	}
	s.condition(v1.PodScheduled, v1.PodReadyToStartContainers, v1.PodInitialized)
	if !podutil.IsPodReadyConditionTrue(s.after) {
		s.condition(v1.ContainersReady, v1.PodReady)
	}
	s.add("pod.sandboxed", nil)
}

// condition takes conditions over from the status to come.
func (s *steps) condition(types ...v1.PodConditionType) {
	s.now.Conditions = slices.Clone(s.now.Conditions)
	for _, typ := range types {
		_, c := podutil.GetPodCondition(&s.after, typ)
		if c == nil {
			continue
		}
		if i, _ := podutil.GetPodCondition(&s.now, typ); i >= 0 {
			s.now.Conditions[i] = *c
		} else {
			s.now.Conditions = append(s.now.Conditions, *c)
		}
	}
}

// exits tells each end of a container that was not told yet, in the order in
// which they happened.
func (s *steps) exits(p plan.Pod) {
	var ended []*plan.Container
	for i := range p.Containers {
		if c := &p.Containers[i]; c.State == plan.Exited && !Told(&s.now, c) {
			ended = append(ended, c)
		}
	}
	slices.SortFunc(ended, func(a, b *plan.Container) int {
		if d := a.Finished.Compare(b.Finished); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	for i, c := range ended {
		to := find(&s.after, c.Name)
		if to == nil {
			continue // The pod has no such container any more.
		}
		st := *to
		if was := find(&s.now, c.Name); was != nil && st.ContainerID != ContainerIDPrefix+c.ID {
			st.LastTerminationState = was.LastTerminationState
			if was.State.Terminated != nil {
				st.LastTerminationState = was.State
			}
		}
		st.ContainerID, st.RestartCount, st.Ready = ContainerIDPrefix+c.ID, int32(c.Attempt), to.Ready && to.State.Terminated != nil
		st.State = v1.ContainerState{Terminated: Terminated(c)}
		if t := st.LastTerminationState.Terminated; t != nil && t.ContainerID == st.ContainerID {
			st.LastTerminationState = s.last(c.Name)
		}
		st.Started = new(bool)
		s.set(st)
		if s.deleting && i == len(ended)-1 && final(s.after.Phase) {
			s.now = s.after
		}
		s.add("container.exited", &note{Container: c.Name, Attempt: int32(c.Attempt), ExitCode: &c.ExitCode, Reason: st.State.Terminated.Reason, Killed: c.Killed})
	}
}

// last is how the attempt before ended, as it was reported.
func (s *steps) last(name string) v1.ContainerState {
	was := find(&s.now, name)
	switch {
	case was == nil:
		return v1.ContainerState{}
	case was.State.Terminated != nil:
		return was.State
	}
	return was.LastTerminationState
}

// Told says whether a status tells of the end of an attempt, or of a later one.
func Told(st *v1.PodStatus, c *plan.Container) bool {
	was := find(st, c.Name)
	if was == nil || was.ContainerID == "" {
		return false
	}
	id := ContainerIDPrefix + c.ID
	for _, state := range []v1.ContainerState{was.State, was.LastTerminationState} {
		if state.Terminated != nil && state.Terminated.ContainerID == id {
			return true
		}
	}
	return was.RestartCount > int32(c.Attempt)
}

func (s *steps) started(to *v1.ContainerStatus) {
	was := find(&s.now, to.Name)
	if to.State.Running == nil || was != nil && was.State.Running != nil && was.ContainerID == to.ContainerID {
		return
	}
	s.set(*to)
	if s.after.Phase == v1.PodRunning && allStarted(&s.now, &s.after) {
		s.now.Phase = v1.PodRunning
	}
	s.condition(v1.PodInitialized)
	s.add("container.started", &note{Container: to.Name, Attempt: to.RestartCount})
}

// allStarted says whether every container of the pod that runs is told to run.
func allStarted(now, after *v1.PodStatus) bool {
	for i := range after.ContainerStatuses {
		to := &after.ContainerStatuses[i]
		if was := find(now, to.Name); to.State.Running != nil && (was == nil || was.State.Running == nil) {
			return false
		}
	}
	return true
}

func (s *steps) waiting(to *v1.ContainerStatus) {
	if to.State.Waiting == nil || to.State.Waiting.Reason == "ContainerCreating" || to.State.Waiting.Reason == "PodInitializing" {
		return
	}
	was := find(&s.now, to.Name)
	if was != nil && was.State.Waiting != nil && was.State.Waiting.Reason == to.State.Waiting.Reason {
		return
	}
	s.set(*to)
	s.add("container.waiting", &note{Container: to.Name, Attempt: to.RestartCount, Reason: to.State.Waiting.Reason})
}

// rest tells what became of the pod, and whatever else is new.
func (s *steps) rest() {
	if equal(&s.now, &s.after) {
		return
	}
	typ := "pod.observed"
	ready := podutil.IsPodReadyConditionTrue(s.after)
	switch {
	case s.now.Phase != s.after.Phase && s.after.Phase == v1.PodSucceeded:
		typ = "pod.succeeded"
	case s.now.Phase != s.after.Phase && s.after.Phase == v1.PodFailed:
		typ = "pod.failed"
	case ready && !podutil.IsPodReadyConditionTrue(s.now):
		typ = "pod.ready"
	case !ready && podutil.IsPodReadyConditionTrue(s.now):
		typ = "pod.unready"
	}
	s.now = s.after
	s.add(typ, nil)
}

func find(st *v1.PodStatus, name string) *v1.ContainerStatus {
	for _, list := range lists(st) {
		for i := range *list {
			if (*list)[i].Name == name {
				return &(*list)[i]
			}
		}
	}
	return nil
}

// set replaces a container's status.
func (s *steps) set(st v1.ContainerStatus) {
	for _, list := range lists(&s.now) {
		for i := range *list {
			if (*list)[i].Name == st.Name {
				*list = slices.Clone(*list)
				(*list)[i] = st
				return
			}
		}
	}
}
