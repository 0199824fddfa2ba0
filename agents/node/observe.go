package node

import (
	"context"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/agents/node/hooks"
	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/agents/node/probes"
	"github.com/reprise-run/reprise/agents/node/status"
)

// held keeps what the runtime said of a sandbox or container for as long as its
// state is the same, so that a look costs two calls.
type held struct {
	sandboxes  []plan.Sandbox
	containers []heldContainer
}

type heldContainer struct {
	state runtimeapi.ContainerState
	plan.Container
}

func (s *held) sandbox(id string) (found plan.Sandbox, known bool) {
	for i := range s.sandboxes {
		if s.sandboxes[i].ID == id {
			return s.sandboxes[i], true
		}
	}
	return found, false
}

func (s *held) container(id string) (found heldContainer, known bool) {
	for i := range s.containers {
		if s.containers[i].ID == id {
			return s.containers[i], true
		}
	}
	return found, false
}

// image is what the node has of an image.
type image struct {
	id   string
	user crispec.User
}

// observe asks the runtime what it has of the pod.
func (w *worker) observe(ctx context.Context, pod *v1.Pod) (plan.Pod, error) {
	p := plan.Pod{Desired: pod, Mounted: w.mounted, Pulled: w.pulled, Failures: w.failures}
	label := map[string]string{kubelettypes.KubernetesPodUIDLabel: string(w.uid)}
	if err := w.sandboxes(ctx, &p, label); err != nil {
		return p, err
	}
	if err := w.containers(ctx, &p, label); err != nil {
		return p, err
	}
	p.Kept = w.a.disk.Has(w.uid)
	if pod == nil {
		return p, nil
	}
	return p, w.needed(ctx, &p)
}

func (w *worker) sandboxes(ctx context.Context, p *plan.Pod, label map[string]string) error {
	boxes, err := w.a.o.Containers.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: label}})
	if err != nil {
		return err
	}
	var now []plan.Sandbox
	for _, b := range boxes.Items {
		if w.ref.Name == "" {
			w.ref = podRef(b.Metadata.Namespace, b.Metadata.Name)
		}
		ready := b.State == runtimeapi.PodSandboxState_SANDBOX_READY
		s, known := w.held.sandbox(b.Id)
		if !known || s.Ready != ready || ready && len(s.IPs) == 0 {
			s = plan.Sandbox{ID: b.Id, Attempt: b.Metadata.Attempt, Ready: ready, Created: time.Unix(0, b.CreatedAt)}
			st, err := w.a.o.Containers.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: b.Id})
			if grpcstatus.Code(err) == codes.NotFound {
				continue
			}
			if err != nil {
				return err
			}
			s.IPs = addresses(st.Status)
		}
		now = append(now, s)
	}
	w.held.sandboxes = now
	p.Sandboxes = now
	return nil
}

func addresses(st *runtimeapi.PodSandboxStatus) []string {
	if st == nil || st.Network == nil || st.Network.Ip == "" {
		return nil
	}
	ips := []string{st.Network.Ip}
	for _, more := range st.Network.AdditionalIps {
		ips = append(ips, more.Ip)
	}
	return ips
}

func (w *worker) containers(ctx context.Context, p *plan.Pod, label map[string]string) error {
	list, err := w.a.o.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: label}})
	if err != nil {
		return err
	}
	now := held{sandboxes: w.held.sandboxes}
	for _, c := range list.Containers {
		s, known := w.held.container(c.Id)
		if !known || s.state != c.State {
			st, err := w.a.o.Containers.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.Id})
			if grpcstatus.Code(err) == codes.NotFound {
				continue
			}
			if err != nil {
				return err
			}
			s = heldContainer{state: st.Status.State, Container: w.container(c, st.Status)}
			verdict, _ := w.a.probes.Verdict(c.Id)
			s.Killed = verdict.Unhealthy
		}
		now.containers = append(now.containers, s)
		p.Containers = append(p.Containers, s.Container)
	}
	for i := range w.held.containers {
		id := w.held.containers[i].ID
		if _, there := now.container(id); !there {
			delete(w.cut, id)
			w.a.probes.Forget(id)
		}
	}
	w.held = now
	return nil
}

// container is what the runtime says of a container, in the plan's terms.
func (w *worker) container(c *runtimeapi.Container, st *runtimeapi.ContainerStatus) plan.Container {
	out := plan.Container{
		Name: st.Metadata.Name, ID: st.Id, Sandbox: c.PodSandboxId, Attempt: st.Metadata.Attempt,
		Image: st.Annotations[crispec.ImageAnnotation], ImageID: imageID(st),
		Created: nano(st.CreatedAt), Started: nano(st.StartedAt), Finished: nano(st.FinishedAt),
		ExitCode: st.ExitCode, Reason: st.Reason, Message: st.Message, Backoff: plan.Fresh,
	}
	if seconds, err := strconv.Atoi(st.Annotations[crispec.BackoffAnnotation]); err == nil {
		out.Backoff = time.Duration(seconds) * time.Second
	}
	switch st.State {
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		out.State = plan.Created
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		out.State = plan.Running
	default:
		out.State = plan.Exited
		if aborted(st) {
			out.State = plan.Aborted
		}
		logs := st.Annotations[crispec.MessagePolicyAnnotation] == string(v1.TerminationMessageFallbackToLogsOnError) && out.ExitCode != 0
		if m := w.a.disk.LastWords(w.ref, w.uid, out.Name, out.Attempt, logs); m != "" {
			out.Message = m
		}
	}
	return out
}

// aborted says that a container's start was cut short because the agent that
// asked for it went away.
func aborted(st *runtimeapi.ContainerStatus) bool {
	return st.Reason == "StartError" && st.StartedAt == 0 && strings.Contains(st.Message, context.Canceled.Error())
}

func imageID(st *runtimeapi.ContainerStatus) string {
	if st.ImageRef != "" {
		return st.ImageRef
	}
	return st.ImageId
}

func nano(t int64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(0, t)
}

// needed asks for the images of containers that do not run.
func (w *worker) needed(ctx context.Context, p *plan.Pod) error {
	for _, c := range specs(p.Desired) {
		if newest := p.Newest(c.Name); newest != nil && newest.State == plan.Running {
			continue
		}
		if _, asked := p.Images[c.Image]; asked {
			continue
		}
		if _, have := w.images[c.Image]; !have {
			st, err := w.a.o.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: c.Image}})
			if err != nil && grpcstatus.Code(err) == codes.Unavailable {
				return err
			}
			if err == nil && st.Image != nil {
				put(&w.images, c.Image, describe(st.Image))
			}
		}
		put(&p.Images, c.Image, w.images[c.Image].id != "")
	}
	return nil
}

func describe(i *runtimeapi.Image) image {
	out := image{id: i.Id, user: crispec.User{Name: i.Username}}
	if i.Uid != nil {
		out.user.UID = &i.Uid.Value
	}
	return out
}

// specs returns all containers of a pod.
func specs(pod *v1.Pod) []*v1.Container {
	var out []*v1.Container
	for i := range pod.Spec.InitContainers {
		out = append(out, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		out = append(out, &pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		c := v1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		out = append(out, &c)
	}
	return out
}

// spec returns a container of a pod by its name, or nil.
func spec(pod *v1.Pod, name string) *v1.Container {
	if pod != nil {
		for _, c := range specs(pod) {
			if c.Name == name {
				return c
			}
		}
	}
	return nil
}

// image returns the image that an action needs.
func (w *worker) image(action plan.Action) image {
	if action.Kind != plan.RunContainer {
		return image{}
	}
	_, pod := w.pod(w.a.o.Projection.View())
	if c := spec(pod, action.Container); c != nil {
		return w.images[c.Image]
	}
	return image{}
}

// probe sees that running containers are watched over, from the end of their postStart
// hooks on, and takes in what was found.
func (w *worker) probe(ctx context.Context, p *plan.Pod) {
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.State != plan.Running {
			w.a.probes.Forget(c.ID)
			continue
		}
		s := spec(p.Desired, c.Name)
		c.Starting = w.cut[c.ID] || (s == nil || plan.PostStart(s)) && w.doing[plan.ContainerKey(c.Name)] != nil
		if s != nil && !c.Starting && p.Desired.DeletionTimestamp == nil {
			w.a.probes.Watch(ctx, p.Desired, hooks.Target{Spec: s, ID: c.ID, IP: podIP(p, w.a.node)}, c.Started, told(p.Desired, c))
		}
		verdict, watched := w.a.probes.Verdict(c.ID)
		if s != nil && !watched {
			verdict = probes.Unasked(s, told(p.Desired, c))
		}
		put(&p.Probes, c.ID, verdict)
	}
	if p.Desired == nil {
		return
	}
	for i := range p.Containers {
		if c := &p.Containers[i]; c.State == plan.Exited && !status.Told(&p.Desired.Status, c) && spec(p.Desired, c.Name) != nil {
			put(&p.Untold, c.ID, true)
		}
	}
}

// told is what was last told of a container that runs: all that a restarted
// agent knows of its probes.
func told(pod *v1.Pod, c *plan.Container) plan.Probe {
	for _, list := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if st := &list[i]; st.Name == c.Name && st.ContainerID == status.ContainerIDPrefix+c.ID {
				return plan.Probe{Started: st.Started != nil && *st.Started, Ready: st.Ready}
			}
		}
	}
	return plan.Probe{}
}

func podIP(p *plan.Pod, n crispec.Node) string {
	ips := podIPs(p, n)
	if len(ips) == 0 {
		return ""
	}
	return ips[0]
}

func podIPs(p *plan.Pod, n crispec.Node) []string {
	if p.Desired != nil && p.Desired.Spec.HostNetwork {
		return n.HostIPs
	}
	if s := p.Current(); s != nil {
		return s.IPs
	}
	return nil
}
