package hollow

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// How a container ends that is told to, and one that is not asked.
const (
	terminated = 143
	killed     = 137
)

// CreateContainer is CRI's.
func (r *Runtime) CreateContainer(_ context.Context, req *runtimeapi.CreateContainerRequest, _ ...grpc.CallOption) (*runtimeapi.CreateContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[req.PodSandboxId]
	switch {
	case s == nil:
		return nil, grpcstatus.Errorf(codes.NotFound, "there is no sandbox %s", req.PodSandboxId)
	case s.state != runtimeapi.PodSandboxState_SANDBOX_READY:
		return nil, grpcstatus.Errorf(codes.FailedPrecondition, "the sandbox %s has been stopped", s.id)
	}
	config := req.Config
	p := r.podOf(s)
	for _, c := range p.containers {
		if c.sandbox == s && c.metadata.Name == config.Metadata.Name && c.metadata.Attempt == config.Metadata.Attempt {
			return nil, grpcstatus.Errorf(codes.AlreadyExists, "attempt %d at the container %s is there already", c.metadata.Attempt, c.metadata.Name)
		}
	}
	c := &container{
		sandbox: s, id: r.id("c"), metadata: config.Metadata, state: runtimeapi.ContainerState_CONTAINER_CREATED,
		image: config.Image.GetImage(), created: r.o.Timeline.Now().UnixNano(), labels: config.Labels, annotations: config.Annotations,
	}
	r.containers[c.id] = c
	p.containers = append(p.containers, c)
	return &runtimeapi.CreateContainerResponse{ContainerId: c.id}, nil
}

// StartContainer is CRI's.
func (r *Runtime) StartContainer(ctx context.Context, req *runtimeapi.StartContainerRequest, _ ...grpc.CallOption) (*runtimeapi.StartContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[req.ContainerId]
	r.mu.Unlock()
	if c == nil {
		return nil, grpcstatus.Errorf(codes.NotFound, "there is no container %s", req.ContainerId)
	}
	dice := r.dice("start", c.sandbox.labels, c.metadata.Name, c.metadata.Attempt)
	if err := r.o.Timeline.sleep(ctx, dice.draw(r.o.Profile.Start)); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.containers[c.id] == nil || c.state != runtimeapi.ContainerState_CONTAINER_CREATED {
		return nil, grpcstatus.Errorf(codes.FailedPrecondition, "the container %s cannot be started any more", c.id)
	}
	now := r.o.Timeline.Now().UnixNano()
	if dice.hits(r.o.Profile.StartFailures) {
		c.state, c.exit, c.reason, c.message = runtimeapi.ContainerState_CONTAINER_EXITED, 128, "StartError", "the profile wants this start to fail"
		c.finished = now
		return nil, grpcstatus.Error(codes.Unknown, c.message)
	}
	c.state, c.started = runtimeapi.ContainerState_CONTAINER_RUNNING, now
	if exits := r.o.Profile.Exits; dice.hits(exits.Share) {
		c.end = r.o.Timeline.after(dice.draw(exits.After), func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if c.state == runtimeapi.ContainerState_CONTAINER_RUNNING {
				r.ended(c, exits.Code)
			}
		})
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

// StopContainer is CRI's. It returns when the container has ended: by itself when
// it is told to, or killed when its time is up.
func (r *Runtime) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest, _ ...grpc.CallOption) (*runtimeapi.StopContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[req.ContainerId]
	r.mu.Unlock()
	if c == nil {
		return nil, grpcstatus.Errorf(codes.NotFound, "there is no container %s", req.ContainerId)
	}
	takes := r.dice("stop", c.sandbox.labels, c.metadata.Name, c.metadata.Attempt).draw(r.o.Profile.Stop)
	code := int32(terminated)
	if grace := time.Duration(req.Timeout) * time.Second; takes > grace || grace == 0 {
		takes, code = grace, killed
	}
	if err := r.o.Timeline.sleep(ctx, takes); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c.state {
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		r.ended(c, code)
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		r.ended(c, killed)
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

// RemoveContainer is CRI's.
func (r *Runtime) RemoveContainer(_ context.Context, req *runtimeapi.RemoveContainerRequest, _ ...grpc.CallOption) (*runtimeapi.RemoveContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[req.ContainerId]; c != nil {
		r.remove(c)
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (r *Runtime) remove(c *container) {
	r.o.Timeline.cancel(c.end)
	delete(r.containers, c.id)
	p := r.podOf(c.sandbox)
	p.containers = slices.DeleteFunc(p.containers, func(x *container) bool { return x == c })
}

// ListContainers is CRI's. The order is that of their making in a pod.
func (r *Runtime) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest, _ ...grpc.CallOption) (*runtimeapi.ListContainersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	f := req.GetFilter()
	add := func(c *container) {
		if f.GetId() != "" && f.Id != c.id || f.GetPodSandboxId() != "" && f.PodSandboxId != c.sandbox.id ||
			f.GetState() != nil && f.State.State != c.state || !matches(c.labels, f.GetLabelSelector()) {
			return
		}
		out.Containers = append(out.Containers, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.metadata, Image: &runtimeapi.ImageSpec{Image: c.image}, ImageRef: c.image,
			State: c.state, CreatedAt: c.created, Labels: c.labels, Annotations: c.annotations,
		})
	}
	if uid, one := f.GetLabelSelector()[kubelettypes.KubernetesPodUIDLabel]; one {
		if p := r.pods[uid]; p != nil {
			for _, c := range p.containers {
				add(c)
			}
		}
		return out, nil
	}
	for _, c := range r.containers {
		add(c)
	}
	slices.SortFunc(out.Containers, func(x, y *runtimeapi.Container) int { return strings.Compare(x.Id, y.Id) })
	return out, nil
}

// ContainerStatus is CRI's.
func (r *Runtime) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest, _ ...grpc.CallOption) (*runtimeapi.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	if c == nil {
		return nil, grpcstatus.Errorf(codes.NotFound, "there is no container %s", req.ContainerId)
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.metadata, State: c.state, CreatedAt: c.created, StartedAt: c.started, FinishedAt: c.finished,
		ExitCode: c.exit, Reason: c.reason, Message: c.message, Image: &runtimeapi.ImageSpec{Image: c.image}, ImageRef: c.image,
		Labels: c.labels, Annotations: c.annotations,
	}}, nil
}
