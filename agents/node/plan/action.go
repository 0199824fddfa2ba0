package plan

import (
	"fmt"
	"strings"
	"time"
)

// Kind says what an action does.
type Kind string

// The kinds of actions. Each is idempotent: to do it again does no harm.
const (
	// PrepareVolumes puts the pod's volumes in place.
	PrepareVolumes Kind = "prepare-volumes"
	// RunSandbox makes the pod's cgroup and a new sandbox, after stopping the
	// one of ID, if that is set.
	RunSandbox Kind = "run-sandbox"
	// PullImage fetches Image for Container.
	PullImage Kind = "pull-image"
	// RunContainer creates and starts Attempt at Container in sandbox ID, and
	// runs its postStart hook.
	RunContainer Kind = "run-container"
	// StartContainer starts the container of ID that was created before.
	StartContainer Kind = "start-container"
	// KillContainer runs the preStop hook of the container of ID, asks it to
	// end, and makes it end when Grace is over.
	KillContainer Kind = "kill-container"
	// RemoveContainer forgets the ended container of ID.
	RemoveContainer Kind = "remove-container"
	// StopSandbox ends the sandbox of ID and gives its addresses back.
	StopSandbox Kind = "stop-sandbox"
	// RemoveSandbox ends the sandbox of ID, and forgets it and its ended containers.
	RemoveSandbox Kind = "remove-sandbox"
	// Clean takes away the pod's volumes, cgroups and directories.
	Clean Kind = "clean"
	// RemovePod tells the cluster that nothing of the pod is left here.
	RemovePod Kind = "remove-pod"
)

// Action is one step for the executor.
type Action struct {
	Kind      Kind
	Container string
	Attempt   uint32
	ID        string
	Image     string
	// Grace is how long a container has to end by itself. Asked is the grace
	// period that was asked for: it tells a second, shorter request apart.
	Grace time.Duration
	Asked int64
	// Backoff is how long the attempt was held back. See Container.
	Backoff time.Duration
	// Reason and Message say why, for people.
	Reason, Message string
}

// Key identifies what the action is at: while one with the same key is under
// way, another has to wait.
func (a Action) Key() string {
	switch a.Kind {
	case RunContainer, StartContainer:
		return ContainerKey(a.Container)
	case PullImage:
		return PullKey(a.Container, a.Attempt)
	case KillContainer:
		return fmt.Sprintf("%s/%s/%d", a.Kind, a.ID, a.Asked)
	case RemoveContainer:
		return string(a.Kind) + "/" + a.ID
	case StopSandbox, RemoveSandbox:
		return "end-sandbox/" + a.ID
	}
	return string(a.Kind)
}

// ContainerKey is the key under which failures to run a container are kept.
func ContainerKey(container string) string { return "container/" + container }

// PullKey is the key under which pulls of a container's image are kept.
func PullKey(container string, attempt uint32) string {
	return fmt.Sprintf("%s/%s/%d", PullImage, container, attempt)
}

// String is the action in one line.
func (a Action) String() string {
	var b strings.Builder
	b.WriteString(string(a.Kind))
	if a.Container != "" {
		b.WriteString(" " + a.Container)
	}
	switch a.Kind {
	case RunContainer, PullImage:
		fmt.Fprintf(&b, " attempt=%d", a.Attempt)
	}
	if a.ID != "" {
		b.WriteString(" id=" + a.ID)
	}
	if a.Image != "" {
		b.WriteString(" image=" + a.Image)
	}
	if a.Kind == KillContainer {
		fmt.Fprintf(&b, " grace=%s", a.Grace)
	}
	if a.Kind == RunContainer && a.Backoff >= 0 {
		fmt.Fprintf(&b, " backoff=%s", a.Backoff)
	}
	if a.Reason != "" {
		b.WriteString(" reason=" + a.Reason)
	}
	if a.Message != "" {
		fmt.Fprintf(&b, " %q", a.Message)
	}
	return b.String()
}
