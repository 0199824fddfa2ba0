// Package plan decides what a node does next for one pod: from what the pod
// should be, what the runtime says it is, and the time, it computes the actions
// that bring it one step nearer. The node agent calls it whenever anything about
// the pod has changed or the wake time has come, and carries the actions out.
//
// It is a pure function: it reads no clock, does nothing itself, and remembers
// nothing. All that it goes by is in Pod, and everything of that which must
// outlive the agent is kept by the runtime.
package plan

import (
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Pod is all that is known of one pod at one moment.
type Pod struct {
	// Desired is the pod as the cluster has it, with the status that was last
	// reported. It is nil if the cluster has no such pod any more and what the
	// runtime still holds of it is an orphan.
	Desired *v1.Pod
	// Sandboxes and Containers are what the runtime holds of the pod.
	Sandboxes  []Sandbox
	Containers []Container
	// Mounted says that the pod's volumes are in place, Kept that something of
	// its volumes, cgroups or directories is on the node.
	Mounted, Kept bool
	// Images says of each image of the pod whether the node has it.
	Images map[string]bool
	// Pulled holds the keys of the PullImage actions that have succeeded.
	Pulled map[string]bool
	// Failures holds, by the key of the action, what failed and was not yet
	// done since.
	Failures map[string]Failure
	// Probes are the verdicts on running containers, by container id.
	Probes map[string]Probe
	// Untold holds the ids of ended containers of whose end the cluster does not
	// know yet: the runtime must not forget them.
	Untold map[string]bool
	// Reported says that the cluster knows how the pod ended, so that it may
	// be removed.
	Reported bool
}

// Sandbox is a pod's network namespace and cgroup, as the runtime has it.
type Sandbox struct {
	ID      string
	Attempt uint32
	Ready   bool
	Created time.Time
	// IPs are the pod's addresses, the first being the one that counts.
	IPs []string
}

// State is what the runtime says of a container.
type State string

// The states, in the order in which a container passes through them.
const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
	// Aborted is a container whose start was cut short, by the end of the agent
	// that asked for it: it never had a process, and its attempt does not count.
	Aborted State = "aborted"
)

// Container is one attempt to run a container of the pod.
type Container struct {
	Name    string
	ID      string
	Sandbox string
	Attempt uint32
	State   State
	// Starting says that it runs and that its postStart hook has not ended, or was cut short:
	// for all who look at the pod it does not run yet.
	Starting bool
	// Image is what the pod asked for, ImageID what it got.
	Image, ImageID             string
	Created, Started, Finished time.Time
	ExitCode                   int32
	// Reason and Message are the runtime's: OOMKilled, Error, Completed.
	Reason, Message string
	// Killed is why the node ended it before its time, as far as it is still
	// known: what its probes said.
	Killed string
	// Backoff is how long the attempt was held back, negative for the first of
	// a series. It rests with the runtime, so that a restarted agent goes on
	// from there.
	Backoff time.Duration
}

// Failure is an action that did not succeed.
type Failure struct {
	Count   int
	At      time.Time
	Reason  string
	Message string
}

// Probe is what the probes of a running container have found so far. Ready and
// Started are true where the container has no such probe.
type Probe struct {
	Started, Ready bool
	// Unready is why the readiness probe failed, when it first did.
	Unready string
	// Unhealthy is the reason to kill the container: why its liveness or
	// startup probe failed. Grace overrides the pod's grace period if not nil.
	Unhealthy string
	Grace     *int64
}

// newestSandbox returns the sandbox of the highest attempt.
func (p *Pod) newestSandbox() *Sandbox {
	var newest *Sandbox
	for i := range p.Sandboxes {
		if s := &p.Sandboxes[i]; newest == nil || s.Attempt > newest.Attempt {
			newest = s
		}
	}
	return newest
}

// Current returns the sandbox that the pod's containers run in, nil if it has
// none that is ready.
func (p *Pod) Current() *Sandbox {
	if s := p.newestSandbox(); s != nil && s.Ready {
		return s
	}
	return nil
}

// Newest returns the latest attempt at a container in any sandbox, or nil.
func (p *Pod) Newest(name string) *Container {
	return p.newest(name, func(*Container) bool { return true })
}

// In returns the latest attempt at a container in one sandbox, or nil.
func (p *Pod) In(sandbox *Sandbox, name string) *Container {
	return p.newest(name, func(c *Container) bool { return sandbox != nil && c.Sandbox == sandbox.ID })
}

func (p *Pod) newest(name string, fits func(*Container) bool) *Container {
	var newest *Container
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.Name == name && fits(c) && (newest == nil || c.Attempt > newest.Attempt) {
			newest = c
		}
	}
	return newest
}

// alive returns the containers that have or may get a process, by name.
func (p *Pod) alive() []*Container {
	var out []*Container
	for i := range p.Containers {
		if c := &p.Containers[i]; c.State != Exited {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Container) int {
		if d := strings.Compare(a.Name, b.Name); d != 0 {
			return d
		}
		return int(a.Attempt) - int(b.Attempt)
	})
	return out
}

// started says that a container runs, its hook is over, and its startup probe was met.
func (p *Pod) started(c *Container) bool {
	return c.State == Running && !c.Starting && p.Probes[c.ID].Started
}

// PostStart says whether a container has a hook that is part of its start.
func PostStart(c *v1.Container) bool {
	return c.Lifecycle != nil && c.Lifecycle.PostStart != nil
}

// Sidecar says whether an init container keeps running beside the pod's
// containers.
func Sidecar(c *v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}
