package node_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// hollow is a container runtime without containers: it keeps what it is asked
// for in memory, and a container ends when the test says so or when it is
// stopped.
type hollow struct {
	runtimeapi.RuntimeServiceClient
	runtimeapi.ImageServiceClient

	mu         sync.Mutex
	ids        int
	sandboxes  map[string]*runtimeapi.PodSandbox
	containers map[string]*runtimeapi.ContainerStatus
	in         map[string]string // the sandbox of each container
	events     chan *runtimeapi.ContainerEventResponse
}

func newHollow() *hollow {
	return &hollow{sandboxes: map[string]*runtimeapi.PodSandbox{}, containers: map[string]*runtimeapi.ContainerStatus{},
		in: map[string]string{}, events: make(chan *runtimeapi.ContainerEventResponse, 1000)}
}

func (h *hollow) id(kind string) string {
	h.ids++
	return fmt.Sprintf("%s%d", kind, h.ids)
}

// exit ends the newest attempt at a container that runs.
func (h *hollow) exit(name string, code int32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.containers {
		if c.Metadata.Name == name && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			h.end(c, code)
			return true
		}
	}
	return false
}

func (h *hollow) end(c *runtimeapi.ContainerStatus, code int32) {
	c.State, c.ExitCode, c.FinishedAt = runtimeapi.ContainerState_CONTAINER_EXITED, code, time.Now().UnixNano()
	h.events <- &runtimeapi.ContainerEventResponse{ContainerId: c.Id, PodSandboxStatus: &runtimeapi.PodSandboxStatus{Labels: c.Labels}}
}

func matches(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func (h *hollow) ListPodSandbox(_ context.Context, r *runtimeapi.ListPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.ListPodSandboxResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range h.sandboxes {
		if matches(s.Labels, r.GetFilter().GetLabelSelector()) {
			out.Items = append(out.Items, &runtimeapi.PodSandbox{Id: s.Id, Metadata: s.Metadata, State: s.State, Labels: s.Labels})
		}
	}
	return out, nil
}

func (h *hollow) PodSandboxStatus(_ context.Context, r *runtimeapi.PodSandboxStatusRequest, _ ...grpc.CallOption) (*runtimeapi.PodSandboxStatusResponse, error) {
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.1.0.2"}}}, nil
}

func (h *hollow) RunPodSandbox(_ context.Context, r *runtimeapi.RunPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.RunPodSandboxResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.id("s")
	h.sandboxes[id] = &runtimeapi.PodSandbox{Id: id, Metadata: r.Config.Metadata, Labels: r.Config.Labels}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

func (h *hollow) StopPodSandbox(_ context.Context, r *runtimeapi.StopPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.StopPodSandboxResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sandboxes[r.PodSandboxId]; s != nil {
		s.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (h *hollow) RemovePodSandbox(_ context.Context, r *runtimeapi.RemovePodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.RemovePodSandboxResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sandboxes, r.PodSandboxId)
	for id, s := range h.in {
		if s == r.PodSandboxId {
			delete(h.containers, id)
		}
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (h *hollow) ListContainers(_ context.Context, r *runtimeapi.ListContainersRequest, _ ...grpc.CallOption) (*runtimeapi.ListContainersResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	for id, c := range h.containers {
		if matches(c.Labels, r.GetFilter().GetLabelSelector()) {
			out.Containers = append(out.Containers, &runtimeapi.Container{Id: id, PodSandboxId: h.in[id], Metadata: c.Metadata, State: c.State, Labels: c.Labels})
		}
	}
	return out, nil
}

func (h *hollow) ContainerStatus(_ context.Context, r *runtimeapi.ContainerStatusRequest, _ ...grpc.CallOption) (*runtimeapi.ContainerStatusResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.containers[r.ContainerId]
	if c == nil {
		return nil, grpcstatus.Error(codes.NotFound, "no such container")
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
		Id: c.Id, Metadata: c.Metadata, State: c.State, CreatedAt: c.CreatedAt, StartedAt: c.StartedAt, FinishedAt: c.FinishedAt,
		ExitCode: c.ExitCode, Image: c.Image, ImageRef: c.ImageRef, Annotations: c.Annotations, Labels: c.Labels,
	}}, nil
}

func (h *hollow) CreateContainer(_ context.Context, r *runtimeapi.CreateContainerRequest, _ ...grpc.CallOption) (*runtimeapi.CreateContainerResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.id("c")
	h.in[id] = r.PodSandboxId
	h.containers[id] = &runtimeapi.ContainerStatus{Id: id, Metadata: r.Config.Metadata, Image: r.Config.Image, ImageRef: "sha256:1",
		CreatedAt: time.Now().UnixNano(), Labels: r.Config.Labels, Annotations: r.Config.Annotations}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func (h *hollow) StartContainer(_ context.Context, r *runtimeapi.StartContainerRequest, _ ...grpc.CallOption) (*runtimeapi.StartContainerResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.containers[r.ContainerId]
	c.State, c.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now().UnixNano()
	return &runtimeapi.StartContainerResponse{}, nil
}

func (h *hollow) StopContainer(_ context.Context, r *runtimeapi.StopContainerRequest, _ ...grpc.CallOption) (*runtimeapi.StopContainerResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.containers[r.ContainerId]; c != nil && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
		h.end(c, 143)
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

func (h *hollow) RemoveContainer(_ context.Context, r *runtimeapi.RemoveContainerRequest, _ ...grpc.CallOption) (*runtimeapi.RemoveContainerResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.containers, r.ContainerId)
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (h *hollow) ImageStatus(context.Context, *runtimeapi.ImageStatusRequest, ...grpc.CallOption) (*runtimeapi.ImageStatusResponse, error) {
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: "sha256:1"}}, nil
}

func (h *hollow) ListImages(context.Context, *runtimeapi.ListImagesRequest, ...grpc.CallOption) (*runtimeapi.ListImagesResponse, error) {
	return &runtimeapi.ListImagesResponse{}, nil
}

func (h *hollow) Version(context.Context, *runtimeapi.VersionRequest, ...grpc.CallOption) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{RuntimeName: "hollow", RuntimeVersion: "v1"}, nil
}

func (h *hollow) Status(context.Context, *runtimeapi.StatusRequest, ...grpc.CallOption) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{}}, nil
}

func (h *hollow) GetContainerEvents(ctx context.Context, _ *runtimeapi.GetEventsRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[runtimeapi.ContainerEventResponse], error) {
	return &eventStream{ctx: ctx, events: h.events}, nil
}

type eventStream struct {
	grpc.ClientStream
	ctx    context.Context
	events chan *runtimeapi.ContainerEventResponse
}

func (s *eventStream) Recv() (*runtimeapi.ContainerEventResponse, error) {
	select {
	case e := <-s.events:
		return e, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}
