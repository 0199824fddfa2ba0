// Package critest is what the node agent rests on in a container runtime. Runtimes
// that it runs on, containerd and the hollow one, must all pass Run.
package critest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// patience is how long a runtime may take to say that something happened.
const patience = 2 * time.Minute

// Subject is a runtime that has nothing yet but an image.
type Subject struct {
	Containers runtimeapi.RuntimeServiceClient
	Images     runtimeapi.ImageServiceClient
	// Image is one that is there, whose containers run until they are stopped.
	Image string
	// Sandbox adds to the configuration of a sandbox what the runtime needs.
	Sandbox func(*runtimeapi.PodSandboxConfig)
}

// Run checks a runtime.
func Run(t *testing.T, s Subject) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &check{T: t, Subject: s, ctx: ctx}
	c.wellAtTheStart()
	c.events = must(s.Containers.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{}))(c)
	box := c.sandboxes()
	id := c.container(box)
	c.ends(box, id)
	c.removed(box, id)
}

type check struct {
	*testing.T
	Subject
	ctx    context.Context
	config *runtimeapi.PodSandboxConfig
	events interface {
		Recv() (*runtimeapi.ContainerEventResponse, error)
	}
}

// must fails the test if there is an error.
func must[V any](v V, err error) func(*check) V {
	return func(c *check) V {
		c.Helper()
		if err != nil {
			c.Fatal(err)
		}
		return v
	}
}

func (c *check) code(what string, err error, want codes.Code) {
	c.Helper()
	if grpcstatus.Code(err) != want {
		c.Errorf("%s: %v, want %s", what, err, want)
	}
}

func (c *check) wellAtTheStart() {
	if v := must(c.Containers.Version(c.ctx, &runtimeapi.VersionRequest{}))(c); v.RuntimeName == "" || v.RuntimeVersion == "" {
		c.Errorf("the runtime has no name or version: %v", v)
	}
	well := map[string]bool{}
	for _, condition := range must(c.Containers.Status(c.ctx, &runtimeapi.StatusRequest{}))(c).Status.Conditions {
		well[condition.Type] = condition.Status
	}
	if !well[runtimeapi.RuntimeReady] || !well[runtimeapi.NetworkReady] {
		c.Errorf("the runtime is not ready: %v", well)
	}
	image := must(c.Images.ImageStatus(c.ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: c.Image}}))(c)
	if image.GetImage().GetId() == "" {
		c.Errorf("the image %s is not there", c.Image)
	}
	_, err := c.Containers.ContainerStatus(c.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: "none"})
	c.code("the status of a container that is not there", err, codes.NotFound)
	_, err = c.Containers.PodSandboxStatus(c.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: "none"})
	c.code("the status of a sandbox that is not there", err, codes.NotFound)
}

var labels = map[string]string{
	kubelettypes.KubernetesPodUIDLabel: "uid-1", kubelettypes.KubernetesPodNameLabel: "p", kubelettypes.KubernetesPodNamespaceLabel: "ns",
}

func (c *check) sandboxes() string {
	c.Helper()
	c.config = &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Namespace: "ns", Uid: "uid-1", Attempt: 2},
		Hostname: "p", Labels: labels, Annotations: map[string]string{"a": "b"},
	}
	c.Sandbox(c.config)
	box := must(c.Containers.RunPodSandbox(c.ctx, &runtimeapi.RunPodSandboxRequest{Config: c.config}))(c).PodSandboxId
	list := c.boxes()
	if len(list) != 1 || list[0].Id != box || list[0].State != runtimeapi.PodSandboxState_SANDBOX_READY ||
		list[0].Metadata.Attempt != 2 || list[0].Metadata.Uid != "uid-1" || list[0].CreatedAt == 0 {
		c.Fatalf("the sandboxes of the pod are %v", list)
	}
	none := must(c.Containers.ListPodSandbox(c.ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		LabelSelector: map[string]string{kubelettypes.KubernetesPodUIDLabel: "other"}}}))(c)
	if len(none.Items) > 0 {
		c.Errorf("the sandboxes of another pod are %v", none.Items)
	}
	st := must(c.Containers.PodSandboxStatus(c.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: box}))(c).Status
	if st.GetNetwork().GetIp() == "" || st.Annotations["a"] != "b" {
		c.Errorf("the status of the sandbox is %v", st)
	}
	return box
}

func (c *check) boxes() []*runtimeapi.PodSandbox {
	c.Helper()
	return must(c.Containers.ListPodSandbox(c.ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		LabelSelector: map[string]string{kubelettypes.KubernetesPodUIDLabel: "uid-1"}}}))(c).Items
}

func (c *check) list() []*runtimeapi.Container {
	c.Helper()
	return must(c.Containers.ListContainers(c.ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		LabelSelector: map[string]string{kubelettypes.KubernetesPodUIDLabel: "uid-1"}}}))(c).Containers
}

func (c *check) status(id string) *runtimeapi.ContainerStatus {
	c.Helper()
	return must(c.Containers.ContainerStatus(c.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id}))(c).Status
}

func (c *check) create(box string) (*runtimeapi.CreateContainerResponse, error) {
	return c.Containers.CreateContainer(c.ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: box, SandboxConfig: c.config, Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "c", Attempt: 3}, Image: &runtimeapi.ImageSpec{Image: c.Image},
			Labels: labels, Annotations: map[string]string{"x": "y"}, LogPath: "c.log", Linux: &runtimeapi.LinuxContainerConfig{
				SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}},
		},
	})
}

func (c *check) container(box string) string {
	c.Helper()
	id := must(c.create(box))(c).ContainerId
	if _, err := c.create(box); err == nil {
		c.Error("the same attempt at a container was made twice")
	}
	list := c.list()
	if len(list) != 1 || list[0].Id != id || list[0].PodSandboxId != box || list[0].State != runtimeapi.ContainerState_CONTAINER_CREATED {
		c.Fatalf("the containers of the pod are %v", list)
	}
	must(c.Containers.StartContainer(c.ctx, &runtimeapi.StartContainerRequest{ContainerId: id}))(c)
	if _, err := c.Containers.StartContainer(c.ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err == nil {
		c.Error("a container was started twice")
	}
	st := c.status(id)
	if st.State != runtimeapi.ContainerState_CONTAINER_RUNNING || st.StartedAt < st.CreatedAt || st.FinishedAt != 0 ||
		st.Metadata.Attempt != 3 || st.Annotations["x"] != "y" || st.ImageRef == "" {
		c.Errorf("the status of the running container is %v", st)
	}
	return id
}

// ends stops the container, and hears of it.
func (c *check) ends(box, id string) {
	c.Helper()
	heard := make(chan error, 1)
	go func() {
		for {
			e, err := c.events.Recv()
			if err != nil {
				heard <- err
				return
			}
			if e.ContainerId == id && e.ContainerEventType == runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT {
				if got := e.PodSandboxStatus.GetLabels()[kubelettypes.KubernetesPodUIDLabel]; got != "uid-1" {
					err = fmt.Errorf("the event of the container's end is about the pod %q", got)
				}
				heard <- err
				return
			}
		}
	}()
	must(c.Containers.StopContainer(c.ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 10}))(c)
	st := c.status(id)
	if st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.FinishedAt < st.StartedAt || st.Reason == "" {
		c.Errorf("the status of the container that was stopped is %v", st)
	}
	select {
	case err := <-heard:
		if err != nil {
			c.Error(err)
		}
	case <-time.After(patience):
		c.Error("no event tells of the container's end")
	}
	must(c.Containers.StopContainer(c.ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 10}))(c)
}

func (c *check) removed(box, id string) {
	c.Helper()
	for range 2 {
		must(c.Containers.RemoveContainer(c.ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}))(c)
	}
	if list := c.list(); len(list) > 0 {
		c.Errorf("containers are left: %v", list)
	}
	for range 2 {
		must(c.Containers.StopPodSandbox(c.ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: box}))(c)
	}
	if list := c.boxes(); len(list) != 1 || list[0].State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		c.Errorf("the sandbox that was stopped is %v", list)
	}
	if _, err := c.create(box); err == nil {
		c.Error("a container was made in a sandbox that has been stopped")
	}
	for range 2 {
		must(c.Containers.RemovePodSandbox(c.ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: box}))(c)
	}
	if list := c.boxes(); len(list) > 0 {
		c.Errorf("sandboxes are left: %v", list)
	}
}
