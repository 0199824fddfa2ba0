package plan

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// Plan returns the actions to take now, which may all be under way together,
// and when to plan again though nothing changed: zero for never.
func Plan(p Pod, now time.Time) (actions []Action, wake time.Time) {
	s := &step{Pod: p, now: now}
	switch end := Ending(p, now); {
	case end != nil:
		s.stop(*end)
	default:
		s.run()
	}
	return s.actions, s.wake
}

// step is a plan in the making.
type step struct {
	Pod
	now     time.Time
	actions []Action
	wake    time.Time
	// held says that a container before this one is to have its postStart hook first.
	held bool
}

// do adds an action, unless it failed lately.
func (s *step) do(a Action) {
	if f, failed := s.Failures[a.Key()]; failed {
		if again := retry(a.Kind, f); s.now.Before(again) {
			s.wakeAt(again)
			return
		}
	}
	s.actions = append(s.actions, a)
}

func (s *step) wakeAt(t time.Time) {
	if s.wake.IsZero() || t.Before(s.wake) {
		s.wake = t
	}
}

// run brings a pod that should run one step nearer to it.
func (s *step) run() {
	if d := deadline(s.Desired); !d.IsZero() {
		s.wakeAt(d)
	}
	if !s.Mounted {
		s.do(Action{Kind: PrepareVolumes})
	}
	sandbox := s.Current()
	if sandbox == nil && !s.runSandbox() {
		return
	}
	if s.initialize(sandbox) {
		for i := range s.Desired.Spec.Containers {
			spec := &s.Desired.Spec.Containers[i]
			s.keep(sandbox, spec)
			s.held = s.held || s.starting(sandbox, spec)
		}
	}
	s.held = false
	s.ephemeral(sandbox)
	s.tidy()
}

// starting says that a container's postStart hook is under way or about to be. Upstream
// starts the containers after it when that is over, and pods rely on it: proxies hold a
// pod's program back in this way until they are there.
func (s *step) starting(sandbox *Sandbox, spec *v1.Container) bool {
	if !PostStart(spec) {
		return false
	}
	if c := s.In(sandbox, spec.Name); c != nil && c.State == Running {
		return c.Starting
	}
	return slices.ContainsFunc(s.actions, func(a Action) bool { return a.Container == spec.Name })
}

// runSandbox asks for a new sandbox, and says whether it may: containers of a
// lost one have to end first.
func (s *step) runSandbox() bool {
	alive := s.alive()
	for _, c := range alive {
		s.end(c, 0, 0, End{Reason: "SandboxChanged", Message: "the pod's sandbox is gone; the pod starts anew"})
	}
	if len(alive) > 0 {
		return false
	}
	run := Action{Kind: RunSandbox}
	if old := s.newestSandbox(); old != nil {
		run.ID, run.Attempt = old.ID, old.Attempt+1
	}
	s.do(run)
	return true
}

// initialize sees to the init containers and says whether those of the pod
// itself may run.
func (s *step) initialize(sandbox *Sandbox) bool {
	done := Initialized(s.Pod)
	for i := range s.Desired.Spec.InitContainers {
		spec := &s.Desired.Spec.InitContainers[i]
		c := s.In(sandbox, spec.Name)
		switch {
		case Sidecar(spec):
			s.keep(sandbox, spec)
			s.held = s.held || s.starting(sandbox, spec)
			if !done && !(c != nil && s.started(c)) {
				return false
			}
		case done || c != nil && c.State == Exited && c.ExitCode == 0:
		default:
			s.keep(sandbox, spec)
			return false
		}
	}
	return true
}

// Initialized says whether the pod's init containers have done their work in the
// sandbox that it has now.
func Initialized(p Pod) bool {
	sandbox := p.Current()
	if sandbox == nil {
		// Nothing can undo it but a new sandbox.
		sandbox = p.newestSandbox()
	}
	for i := range p.Desired.Spec.Containers {
		if p.In(sandbox, p.Desired.Spec.Containers[i].Name) != nil {
			return true
		}
	}
	for i := range p.Desired.Spec.InitContainers {
		spec := &p.Desired.Spec.InitContainers[i]
		c := p.In(sandbox, spec.Name)
		switch {
		case c == nil:
			return false
		case Sidecar(spec):
			if !p.started(c) {
				return false
			}
		case c.State != Exited || c.ExitCode != 0:
			return false
		}
	}
	return true
}

// keep brings one container one step nearer to running, or to running again.
func (s *step) keep(sandbox *Sandbox, spec *v1.Container) {
	c := s.In(sandbox, spec.Name)
	switch {
	case c == nil:
		s.start(sandbox, spec, Fresh)
	case c.State == Created && s.held:
	case c.State == Created:
		s.do(Action{Kind: StartContainer, Container: spec.Name, ID: c.ID, Attempt: c.Attempt})
	case c.State == Aborted:
		s.do(Action{Kind: RemoveContainer, Container: spec.Name, ID: c.ID})
	case c.State == Running:
		s.judge(spec, c)
	case !Restarts(s.Desired, spec, c):
	case s.now.Before(due(c)):
		s.wakeAt(due(c))
	default:
		s.start(sandbox, spec, Delay(c))
	}
}

// Restarts says whether a container that has ended is to run again.
func Restarts(pod *v1.Pod, spec *v1.Container, ended *Container) bool {
	if initContainer(pod, spec.Name) && !Sidecar(spec) {
		return ended.ExitCode != 0 && podutil.IsContainerRestartable(pod.Spec, *spec)
	}
	return podutil.ContainerShouldRestart(*spec, pod.Spec, ended.ExitCode)
}

func initContainer(pod *v1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return true
		}
	}
	return false
}

// judge kills a running container that its probes condemn or that is no longer
// what the pod says.
func (s *step) judge(spec *v1.Container, c *Container) {
	probe := s.Probes[c.ID]
	switch {
	case probe.Unhealthy != "":
		grace := gracePeriod(s.Desired)
		if probe.Grace != nil {
			grace = *probe.Grace
		}
		s.kill(c, time.Duration(grace)*time.Second, grace, "Unhealthy", probe.Unhealthy)
	case c.Image != "" && c.Image != spec.Image:
		grace := gracePeriod(s.Desired)
		s.kill(c, time.Duration(grace)*time.Second, grace, "Changed", "the container's image has changed to "+spec.Image)
	}
}

// start runs the next attempt at a container, once its image, the volumes and
// the sandbox are there.
func (s *step) start(sandbox *Sandbox, spec *v1.Container, backoff time.Duration) {
	attempt := NextAttempt(s.Pod, spec.Name)
	if !s.image(spec, attempt) || sandbox == nil || !s.Mounted || s.held {
		return
	}
	s.do(Action{Kind: RunContainer, Container: spec.Name, Attempt: attempt, ID: sandbox.ID, Backoff: backoff})
}

// image says whether the container may use its image, and asks for it if not.
func (s *step) image(spec *v1.Container, attempt uint32) bool {
	pull := Action{Kind: PullImage, Container: spec.Name, Attempt: attempt, Image: spec.Image}
	switch {
	case spec.ImagePullPolicy == v1.PullNever:
		if !s.Images[spec.Image] {
			s.wakeAt(s.now.Add(firstDelay))
		}
		return s.Images[spec.Image]
	case s.Pulled[pull.Key()], spec.ImagePullPolicy != v1.PullAlways && s.Images[spec.Image]:
		return true
	}
	s.do(pull)
	return false
}

// NextAttempt is the number of the next attempt at a container: one more than
// any that the runtime or the cluster knows of.
func NextAttempt(p Pod, name string) uint32 {
	var next uint32
	if c := p.Newest(name); c != nil {
		next = c.Attempt + 1
	}
	if p.Desired == nil {
		return next
	}
	for _, statuses := range [][]v1.ContainerStatus{p.Desired.Status.InitContainerStatuses, p.Desired.Status.ContainerStatuses} {
		if st, ok := podutil.GetContainerStatus(statuses, name); ok && st.ContainerID != "" {
			next = max(next, uint32(st.RestartCount)+1)
		}
	}
	return next
}

// ephemeral starts the containers that were added for debugging. They run once.
func (s *step) ephemeral(sandbox *Sandbox) {
	for i := range s.Desired.Spec.EphemeralContainers {
		spec := v1.Container(s.Desired.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		switch c := s.Newest(spec.Name); {
		case c == nil:
			s.start(sandbox, &spec, Fresh)
		case c.State == Created:
			s.do(Action{Kind: StartContainer, Container: spec.Name, ID: c.ID, Attempt: c.Attempt})
		case c.State == Aborted:
			s.do(Action{Kind: RemoveContainer, Container: spec.Name, ID: c.ID})
		}
	}
}

// tidy forgets what is more than one attempt behind, and lost sandboxes with it.
func (s *step) tidy() {
	kept := map[string]bool{}
	for i := range s.Containers {
		c := &s.Containers[i]
		if c.State == Exited && !s.Untold[c.ID] && c.Attempt+1 < s.Newest(c.Name).Attempt {
			s.do(Action{Kind: RemoveContainer, Container: c.Name, ID: c.ID})
			continue
		}
		kept[c.Sandbox] = true
	}
	newest := s.newestSandbox()
	for i := range s.Sandboxes {
		if b := &s.Sandboxes[i]; b.ID != newest.ID && !kept[b.ID] {
			s.do(Action{Kind: RemoveSandbox, ID: b.ID})
		}
	}
}

// gracePeriod is how many seconds the pod's containers have to end.
func gracePeriod(pod *v1.Pod) int64 {
	if pod == nil {
		return 0
	}
	if pod.DeletionGracePeriodSeconds != nil {
		return *pod.DeletionGracePeriodSeconds
	}
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return v1.DefaultTerminationGracePeriodSeconds
}

func (s *step) kill(c *Container, grace time.Duration, asked int64, reason, message string) {
	s.do(Action{Kind: KillContainer, Container: c.Name, ID: c.ID, Grace: grace, Asked: asked, Reason: reason, Message: message})
}
