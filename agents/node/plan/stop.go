package plan

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
)

// End says why a pod's containers are not to run, or not any more.
type End struct {
	// Phase is what becomes of the pod, empty if that depends on how its
	// containers end.
	Phase           v1.PodPhase
	Reason, Message string
}

// Ending says why the pod is to be stopped, and returns nil if it is to run.
func Ending(p Pod, now time.Time) *End {
	pod := p.Desired
	switch {
	case pod == nil:
		return &End{Reason: "Removed", Message: "the pod is no longer part of the cluster"}
	case pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed:
		return &End{Phase: pod.Status.Phase, Reason: pod.Status.Reason, Message: pod.Status.Message}
	case pod.DeletionTimestamp != nil:
		return &End{Reason: "Deleted", Message: "the pod is being deleted"}
	}
	if d := deadline(pod); !d.IsZero() && !now.Before(d) {
		return &End{Phase: v1.PodFailed, Reason: "DeadlineExceeded",
			Message: fmt.Sprintf("the pod was active for longer than its activeDeadlineSeconds of %d", *pod.Spec.ActiveDeadlineSeconds)}
	}
	if phase := Outcome(p); phase != "" {
		return &End{Phase: phase}
	}
	return nil
}

// deadline is when the pod has been active for as long as it may, zero for never.
func deadline(pod *v1.Pod) time.Time {
	if pod.Spec.ActiveDeadlineSeconds == nil || pod.Status.StartTime == nil {
		return time.Time{}
	}
	return pod.Status.StartTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second)
}

// Outcome is how the pod ended by itself: Succeeded or Failed if all its
// containers have ended and none is to run again, else empty.
func Outcome(p Pod) v1.PodPhase {
	sandbox := p.newestSandbox()
	for i := range p.Desired.Spec.InitContainers {
		spec := &p.Desired.Spec.InitContainers[i]
		c := p.In(sandbox, spec.Name)
		if !Sidecar(spec) && c != nil && c.State == Exited && c.ExitCode != 0 && !Restarts(p.Desired, spec, c) {
			return v1.PodFailed
		}
	}
	phase := v1.PodSucceeded
	for i := range p.Desired.Spec.Containers {
		spec := &p.Desired.Spec.Containers[i]
		c := p.Newest(spec.Name)
		if c == nil || c.State != Exited || Restarts(p.Desired, spec, c) {
			return ""
		}
		if c.ExitCode != 0 {
			phase = v1.PodFailed
		}
	}
	return phase
}

// stop brings a pod that is not to run one step nearer to being gone.
func (s *step) stop(end End) {
	if s.stopContainers(end) {
		return
	}
	deleted := s.Desired == nil || s.Desired.DeletionTimestamp != nil
	forget := deleted && (s.Desired == nil || s.Reported)
	if !forget && s.stopSandboxes() {
		return
	}
	if !deleted {
		// What ended stays, for its logs, but holds no volume or cgroup.
		if s.Mounted {
			s.do(Action{Kind: Clean})
		}
		return
	}
	if !forget {
		return
	}
	for i := range s.Sandboxes {
		s.do(Action{Kind: RemoveSandbox, ID: s.Sandboxes[i].ID})
	}
	switch {
	case len(s.Sandboxes) > 0:
	case s.Kept:
		s.do(Action{Kind: Clean})
	case s.Desired != nil && len(s.Desired.Finalizers) == 0:
		s.do(Action{Kind: RemovePod})
	}
}

// stopSandboxes ends the sandboxes that are ready, and says whether there are any.
func (s *step) stopSandboxes() (any bool) {
	for i := range s.Sandboxes {
		if b := &s.Sandboxes[i]; b.Ready {
			any = true
			s.do(Action{Kind: StopSandbox, ID: b.ID})
		}
	}
	return any
}

// sidecarGrace is what a sidecar has at least to end after the containers that
// it serves.
const sidecarGrace = 2 * time.Second

// stopContainers ends the pod's containers: first those of the pod itself and
// init containers at work, then the sidecars, last started first. It says
// whether there is something left to end.
func (s *step) stopContainers(end End) bool {
	alive := s.alive()
	if len(alive) == 0 {
		return false
	}
	sidecars := map[string]int{}
	if s.Desired != nil {
		for i := range s.Desired.Spec.InitContainers {
			if spec := &s.Desired.Spec.InitContainers[i]; Sidecar(spec) {
				sidecars[spec.Name] = i
			}
		}
	}
	grace := gracePeriod(s.Desired)
	var last *Container
	killed := false
	for _, c := range alive {
		if at, is := sidecars[c.Name]; is {
			if last == nil || at > sidecars[last.Name] {
				last = c
			}
			continue
		}
		killed = true
		s.end(c, time.Duration(grace)*time.Second, grace, end)
	}
	if last != nil && !killed {
		left := time.Duration(grace) * time.Second
		if s.Desired.DeletionTimestamp != nil {
			left = min(left, max(s.Desired.DeletionTimestamp.Sub(s.now), sidecarGrace))
		}
		s.end(last, left, grace, end)
	}
	return true
}

// end makes a container end; one that never ran is forgotten.
func (s *step) end(c *Container, grace time.Duration, asked int64, end End) {
	if c.State != Running {
		s.do(Action{Kind: RemoveContainer, Container: c.Name, ID: c.ID})
		return
	}
	reason := end.Reason
	if reason == "" {
		reason = "Completed"
	}
	s.kill(c, grace, asked, reason, end.Message)
}
