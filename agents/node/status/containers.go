package status

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/reprise-run/reprise/agents/node/plan"
)

// ContainerIDPrefix is what a container's id is prefixed with in the API: it
// names the runtime.
const ContainerIDPrefix = "containerd://"

// composer computes the statuses of a pod's containers.
type composer struct {
	plan.Pod
	end          *plan.End
	now          time.Time
	initializing bool
}

func (c composer) all(specs []v1.Container, before []v1.ContainerStatus) []v1.ContainerStatus {
	var out []v1.ContainerStatus
	for i := range specs {
		old := podutil.GetExistingContainerStatus(before, specs[i].Name)
		out = append(out, c.one(&specs[i], old))
	}
	return out
}

// one computes the status of a container, given the one reported before.
func (c composer) one(spec *v1.Container, old v1.ContainerStatus) v1.ContainerStatus {
	newest := c.started(spec.Name)
	// What was told never goes back: when a pod is taken away the runtime may
	// for a moment have only the attempt before.
	if newest == nil || old.ContainerID != "" && int32(newest.Attempt) < old.RestartCount {
		return c.absent(spec, old)
	}
	probe := c.Probes[newest.ID]
	st := v1.ContainerStatus{
		Name: spec.Name, Image: spec.Image, ImageID: newest.ImageID,
		ContainerID: ContainerIDPrefix + newest.ID, RestartCount: int32(newest.Attempt),
		LastTerminationState: c.previous(newest, old),
	}
	if newest.Image != "" {
		st.Image = newest.Image
	}
	started := false
	if newest.State == plan.Running {
		st.State.Running = since(at(newest.Started), old.State.Running)
		started = probe.Started
		st.Ready = started && probe.Ready
	} else {
		st.State.Terminated = told(newest, old)
		st.Ready = newest.ExitCode == 0 && c.plainInit(spec)
		if reason, message := c.held(spec, newest); reason != "" {
			st.LastTerminationState = v1.ContainerState{Terminated: st.State.Terminated}
			st.State = waiting(reason, message)
		}
	}
	st.Started = &started
	return st
}

// since says that a container has run from a time on, as it was reported if it was.
func since(started metav1.Time, old *v1.ContainerStateRunning) *v1.ContainerStateRunning {
	if old != nil && old.StartedAt.Equal(&started) {
		return old
	}
	return &v1.ContainerStateRunning{StartedAt: started}
}

// started is the latest attempt at a container that has had a process: one that was only
// created is about to, and one whose postStart hook is under way is not told before that is
// over, as upstream, so that nobody who waits for it is ahead of the hook.
func (c composer) started(name string) *plan.Container {
	var newest *plan.Container
	for i := range c.Containers {
		if a := &c.Containers[i]; a.Name == name && (a.State == plan.Running && !a.Starting || a.State == plan.Exited) && (newest == nil || a.Attempt > newest.Attempt) {
			newest = a
		}
	}
	return newest
}

// held says why a container that has ended and will run again does not yet.
func (c composer) held(spec *v1.Container, ended *plan.Container) (reason, message string) {
	if c.end != nil || !plan.Restarts(c.Desired, spec, ended) || c.ephemeral(spec.Name) {
		return "", ""
	}
	next := plan.NextAttempt(c.Pod, spec.Name)
	backoff := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
		plan.Delay(ended), spec.Name, c.Desired.Name, c.Desired.Namespace, c.Desired.UID)
	f := c.Failures[plan.ContainerKey(spec.Name)]
	if _, failed := c.Failures[plan.PullKey(spec.Name, next)]; plan.Delay(ended) > 0 && !failed {
		switch f.Reason {
		case "RunContainerError", "PostStartHookError": // It was the end of the attempt.
			return "CrashLoopBackOff", backoff + ": " + f.Message
		case "":
			return "CrashLoopBackOff", backoff
		}
	}
	if reason, message = c.why(spec, next); reason == "ContainerCreating" || reason == "PodInitializing" {
		return "", ""
	}
	return reason, message
}

// previous is how the attempt before ended, from the runtime if it still knows
// or else as it was reported.
func (c composer) previous(newest *plan.Container, old v1.ContainerStatus) v1.ContainerState {
	for i := range c.Containers {
		if p := &c.Containers[i]; p.Name == newest.Name && p.Attempt+1 == newest.Attempt && p.State == plan.Exited {
			return v1.ContainerState{Terminated: told(p, old)}
		}
	}
	if old.ContainerID == ContainerIDPrefix+newest.ID {
		if t := old.LastTerminationState.Terminated; t != nil && t.ContainerID == old.ContainerID {
			return v1.ContainerState{}
		}
		return old.LastTerminationState
	}
	if old.State.Terminated != nil {
		return old.State
	}
	return old.LastTerminationState
}

// absent is the status of a container that the runtime does not have: one that
// did not run yet, or one that was lost.
func (c composer) absent(spec *v1.Container, old v1.ContainerStatus) v1.ContainerStatus {
	if old.State.Terminated != nil {
		return old
	}
	no := false
	st := v1.ContainerStatus{
		Name: spec.Name, Image: spec.Image, Started: &no,
		ImageID: old.ImageID, ContainerID: old.ContainerID, RestartCount: old.RestartCount,
		LastTerminationState: old.LastTerminationState,
	}
	if old.State.Running != nil {
		st.LastTerminationState = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
			ExitCode: 137, Reason: "ContainerStatusUnknown", ContainerID: old.ContainerID,
			Message:   "the runtime lost the container; how it ended is not known",
			StartedAt: old.State.Running.StartedAt,
		}}
		if c.end != nil {
			st.State = st.LastTerminationState
			st.LastTerminationState = old.LastTerminationState
			return st
		}
	}
	st.State = waiting(c.why(spec, plan.NextAttempt(c.Pod, spec.Name)))
	return st
}

// pullPause is how long a failed pull is shown as such; then it is waiting for
// the next.
const pullPause = 2 * time.Second

// why says what a container waits for.
func (c composer) why(spec *v1.Container, attempt uint32) (reason, message string) {
	if f, failed := c.Failures[plan.PullKey(spec.Name, attempt)]; failed {
		if f.Reason == "ErrImagePull" && (f.Count > 1 || !c.now.Before(f.At.Add(pullPause))) {
			return "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: %s", spec.Image, f.Message)
		}
		return f.Reason, f.Message
	}
	if f, failed := c.Failures[plan.ContainerKey(spec.Name)]; failed {
		return f.Reason, f.Message
	}
	if have, asked := c.Images[spec.Image]; asked && !have && spec.ImagePullPolicy == v1.PullNever {
		return "ErrImageNeverPull", fmt.Sprintf("image %q is not on the node, and imagePullPolicy is Never", spec.Image)
	}
	reason = "ContainerCreating"
	if c.initializing {
		reason = "PodInitializing"
	}
	for _, kind := range []plan.Kind{plan.PrepareVolumes, plan.RunSandbox} {
		if f, failed := c.Failures[string(kind)]; failed {
			return reason, f.Message
		}
	}
	return reason, ""
}

func (c composer) plainInit(spec *v1.Container) bool {
	for i := range c.Desired.Spec.InitContainers {
		if c.Desired.Spec.InitContainers[i].Name == spec.Name {
			return !plan.Sidecar(spec)
		}
	}
	return false
}

func (c composer) ephemeral(name string) bool {
	for i := range c.Desired.Spec.EphemeralContainers {
		if c.Desired.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

func waiting(reason, message string) v1.ContainerState {
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// told is how an attempt ended, in the words in which it was told already, for
// the node may not find all of them again.
func told(ended *plan.Container, old v1.ContainerStatus) *v1.ContainerStateTerminated {
	for _, state := range []v1.ContainerState{old.State, old.LastTerminationState} {
		if t := state.Terminated; t != nil && t.ContainerID == ContainerIDPrefix+ended.ID {
			return t
		}
	}
	return Terminated(ended)
}

// Terminated is how an attempt ended, as the API has it.
func Terminated(c *plan.Container) *v1.ContainerStateTerminated {
	reason := c.Reason
	if reason == "" {
		reason = "Completed"
		if c.ExitCode != 0 {
			reason = "Error"
		}
	}
	return &v1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Reason: reason, Message: c.Message,
		StartedAt: at(c.Started), FinishedAt: at(c.Finished), ContainerID: ContainerIDPrefix + c.ID,
	}
}
