package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/agents/node/hooks"
	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// task carries out one action, on the pod as it was when the action was planned.
type task struct {
	plan.Action
	a     *Agent
	pod   *v1.Pod
	uid   types.UID
	ref   events.Ref
	p     plan.Pod
	image image
	begun string // the id of the container that run has started
}

// Why a container waits, in the words that people know.
const (
	reasonErrImagePull   = "ErrImagePull"
	reasonConfigError    = "CreateContainerConfigError"
	reasonCreateError    = "CreateContainerError"
	reasonRunError       = "RunContainerError"
	reasonInvalidImage   = "InvalidImageName"
	reasonPostStartError = "PostStartHookError"
)

// reasoned is an error with such a reason.
type reasoned struct {
	reason string
	error
}

func (r reasoned) Unwrap() error { return r.error }

// failure is an error in the plan's terms.
func failure(action plan.Action, err error) plan.Failure {
	f := plan.Failure{Message: message(err)}
	var r reasoned
	switch {
	case errors.As(err, &r):
		f.Reason = r.reason
	case errors.Is(err, crispec.ErrConfig):
		f.Reason = reasonConfigError
	case action.Kind == plan.PullImage:
		f.Reason = reasonErrImagePull
	}
	return f
}

// decoration is what the wire adds to the runtime's errors.
var decoration = regexp.MustCompile(`rpc error: code = \w+ desc = `)

// message is an error without the wire's decoration.
func message(err error) string {
	return strings.TrimPrefix(decoration.ReplaceAllLiteralString(err.Error(), ""), crispec.ErrConfig.Error()+": ")
}

// patience is how long the runtime may take over one step.
const patience = 2 * time.Minute

// whole returns a context for a step that is done whole or not at all: the
// runtime leaves halves behind if it is left in the middle.
func whole(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

// run carries the action out. For volumes it says when to do so again.
func (t *task) run(ctx context.Context) (refresh time.Time, err error) {
	switch t.Kind {
	case plan.RunSandbox, plan.RemoveContainer, plan.StopSandbox, plan.RemoveSandbox:
		var cancel context.CancelFunc
		ctx, cancel = whole(ctx)
		defer cancel()
	}
	switch t.Kind {
	case plan.PrepareVolumes:
		return t.a.disk.Prepare(ctx, t.pod, t.a.o.Projection.View())
	case plan.RunSandbox:
		return refresh, t.runSandbox(ctx)
	case plan.PullImage:
		return refresh, t.pull(ctx)
	case plan.RunContainer:
		return refresh, t.runContainer(ctx)
	case plan.StartContainer:
		return refresh, t.startContainer(ctx, t.ID)
	case plan.KillContainer:
		return refresh, t.kill(ctx)
	case plan.RemoveContainer:
		_, err = t.a.o.Containers.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: t.ID})
	case plan.StopSandbox, plan.RemoveSandbox:
		// One that has ended by itself, or half of which was stopped, still has its network.
		_, err = t.a.o.Containers.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: t.ID})
		if err == nil && t.Kind == plan.RemoveSandbox {
			_, err = t.a.o.Containers.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: t.ID})
		}
	case plan.Clean:
		return refresh, t.clean()
	case plan.RemovePod:
		view := t.a.o.Projection.View()
		if e := view.Get(t.ref); e != nil && e.UID == string(t.uid) {
			return refresh, t.a.remove(ctx, e, view)
		}
	}
	if grpcstatus.Code(err) == codes.NotFound {
		err = nil // It is gone already.
	}
	return refresh, err
}

func (t *task) runSandbox(ctx context.Context) error {
	if t.ID != "" {
		_, err := t.a.o.Containers.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: t.ID})
		if err != nil && grpcstatus.Code(err) != codes.NotFound {
			return err
		}
	}
	parent := ""
	if t.a.o.Cgroups != nil {
		var err error
		if parent, err = t.a.o.Cgroups.EnsurePod(string(t.uid), podLimits(t.pod)); err != nil {
			return fmt.Errorf("cannot make the pod's control group: %w", err)
		}
	}
	config := t.a.node.Sandbox(t.pod, t.Attempt, parent)
	if err := t.a.disk.MakeLogs(config.LogDirectory); err != nil {
		return err
	}
	handler, err := t.handler()
	if err != nil {
		return err
	}
	_, err = t.a.o.Containers.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	return err
}

// handler is the runtime's name for how the pod wants to be run.
func (t *task) handler() (string, error) {
	if t.pod.Spec.HostUsers != nil && !*t.pod.Spec.HostUsers {
		return "", errors.New("the pod asks for users of its own (hostUsers: false), which this node does not have")
	}
	if t.pod.Spec.RuntimeClassName == nil || *t.pod.Spec.RuntimeClassName == "" {
		return "", nil
	}
	name := *t.pod.Spec.RuntimeClassName
	e := t.a.o.Projection.View().Get(events.Ref{Group: "node.k8s.io", Resource: "runtimeclasses", Name: name})
	if e == nil {
		return "", fmt.Errorf("runtimeclass %q not found", name)
	}
	return projections.As[nodev1.RuntimeClass](e).Handler, nil
}

// sandboxConfig is the configuration that the pod's current sandbox was made by.
func (t *task) sandboxConfig() *runtimeapi.PodSandboxConfig {
	parent, attempt := "", uint32(0)
	if t.a.o.Cgroups != nil {
		parent = t.a.o.Cgroups.Parent(string(t.uid))
	}
	for _, s := range t.p.Sandboxes {
		if s.ID == t.ID {
			attempt = s.Attempt
		}
	}
	return t.a.node.Sandbox(t.pod, attempt, parent)
}

func (t *task) runContainer(ctx context.Context) error {
	c := spec(t.pod, t.Container)
	if c == nil {
		return fmt.Errorf("the pod has no container %q any more", t.Container)
	}
	if t.image.id == "" {
		return fmt.Errorf("the image %q is gone from the node", c.Image)
	}
	objs := t.a.o.Projection.View()
	extra, err := t.a.disk.Files(t.pod, c, t.Attempt, t.hosts)
	if err != nil {
		return err
	}
	hidden, err := t.hidden(ctx, c)
	if err != nil {
		return err
	}
	attempt := crispec.Attempt{
		Number: t.Attempt, Backoff: t.Backoff, ImageID: t.image.id, ImageUser: t.image.user,
		IPs: podIPs(&t.p, t.a.node), Services: t.a.services(t.pod, objs), Extra: extra,
		Seccomp: filepath.Join(t.a.o.RootDir, "seccomp"), Target: t.target(),
		Mounts: func(m *v1.VolumeMount, expand func(string) string) (*runtimeapi.Mount, error) {
			return t.a.disk.Mount(t.pod, m, objs, expand)
		},
	}
	if hidden != nil {
		attempt.Hide = hidden.Hide
	}
	config, err := t.a.node.Container(t.pod, c, objs, attempt)
	if err == nil && hidden != nil {
		err = hidden.Save()
	}
	if err != nil {
		return err
	}
	if err := t.a.disk.MakeLogs(filepath.Join(crispec.LogDirectory(t.a.node.Logs, t.pod.Namespace, t.pod.Name, t.uid), c.Name)); err != nil {
		return err
	}
	whole, cancel := whole(ctx)
	defer cancel()
	r, err := t.a.o.Containers.CreateContainer(whole, &runtimeapi.CreateContainerRequest{
		PodSandboxId: t.ID, Config: config, SandboxConfig: t.sandboxConfig(),
	})
	if err != nil {
		return reasoned{reasonCreateError, err}
	}
	return t.startContainer(ctx, r.ContainerId)
}

// startContainer starts a container that was created.
func (t *task) startContainer(ctx context.Context, id string) error {
	whole, cancel := whole(ctx)
	defer cancel()
	if _, err := t.a.o.Containers.StartContainer(whole, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		return reasoned{reasonRunError, err}
	}
	t.begun = id
	return nil
}

// postStart runs the hook of that name of a container that run has started. If it fails the
// container is ended, and started anew by its policy. It may take its time, and has no slot:
// others are to start meanwhile, maybe what the hook waits for.
func (t *task) postStart(ctx context.Context) error {
	c := spec(t.pod, t.Container)
	if t.begun == "" || c == nil || !plan.PostStart(c) {
		return nil
	}
	target := hooks.Target{Spec: c, ID: t.begun, IP: podIP(&t.p, t.a.node)}
	if err := t.a.hooks.Lifecycle(ctx, c.Lifecycle.PostStart, target); err != nil && ctx.Err() == nil {
		t.stop(ctx, t.begun, gracePeriod(t.pod))
		return reasoned{reasonPostStartError, fmt.Errorf("postStart hook: %w", err)}
	}
	return nil
}

// hosts is the content of the pod's hosts file, given the machine's.
func (t *task) hosts(machine string) string {
	return t.a.node.Hosts(t.pod, podIPs(&t.p, t.a.node), machine)
}

// target is the container whose processes an ephemeral container shares.
func (t *task) target() string {
	for i := range t.pod.Spec.EphemeralContainers {
		e := &t.pod.Spec.EphemeralContainers[i]
		if e.Name != t.Container || e.TargetContainerName == "" {
			continue
		}
		if c := t.p.Newest(e.TargetContainerName); c != nil {
			return c.ID
		}
	}
	return ""
}

// kill runs the preStop hook and ends the container, both within its grace.
func (t *task) kill(ctx context.Context) error {
	started := t.a.o.Clock.Now()
	c := spec(t.pod, t.Container)
	if c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil && t.Grace > 0 {
		hook, cancel := context.WithTimeout(ctx, t.Grace)
		target := hooks.Target{Spec: c, ID: t.ID, IP: podIP(&t.p, t.a.node)}
		if err := t.a.hooks.Lifecycle(hook, c.Lifecycle.PreStop, target); err != nil && ctx.Err() == nil {
			t.a.log.Info("a preStop hook failed", "pod", t.ref, "container", t.Container, "error", err)
		}
		cancel()
	}
	left := t.Grace - t.a.o.Clock.Since(started)
	// A container always gets a moment, unless it is to end at once.
	if t.Grace > 0 {
		left = max(left, 2*time.Second)
	}
	return t.stop(ctx, t.ID, int64(left/time.Second))
}

func (t *task) stop(ctx context.Context, id string, seconds int64) error {
	_, err := t.a.o.Containers.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: seconds})
	if grpcstatus.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

func gracePeriod(pod *v1.Pod) int64 {
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return v1.DefaultTerminationGracePeriodSeconds
}

// clean takes away what the node keeps for the pod. Logs go only with the pod.
func (t *task) clean() error {
	if t.a.o.Cgroups != nil {
		if err := t.a.o.Cgroups.RemovePod(string(t.uid)); err != nil {
			return fmt.Errorf("cannot remove the pod's control group: %w", err)
		}
	}
	return t.a.disk.Remove(t.uid, t.pod == nil || t.pod.DeletionTimestamp != nil)
}
