package hollow

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// RunPodSandbox is CRI's.
func (r *Runtime) RunPodSandbox(ctx context.Context, req *runtimeapi.RunPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.RunPodSandboxResponse, error) {
	config := req.Config
	if err := r.o.Timeline.sleep(ctx, r.dice("sandbox", config.Labels, "", config.Metadata.Attempt).draw(r.o.Profile.Sandbox)); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &sandbox{metadata: config.Metadata, labels: config.Labels, annotations: config.Annotations, created: r.o.Timeline.Now().UnixNano()}
	host := config.Linux.GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
	if !host {
		address, err := r.address()
		if err != nil {
			return nil, err
		}
		s.address = address
	}
	s.id = r.id("s")
	r.sandboxes[s.id] = s
	p := r.pods[config.Labels[kubelettypes.KubernetesPodUIDLabel]]
	if p == nil {
		p = &pod{}
		r.pods[config.Labels[kubelettypes.KubernetesPodUIDLabel]] = p
	}
	p.sandboxes = append(p.sandboxes, s)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: s.id}, nil
}

// address takes the next address of the range that is free, as a CNI plugin does.
// Called with mu held.
func (r *Runtime) address() (netip.Addr, error) {
	if !r.o.Pods.IsValid() {
		return netip.Addr{}, nil
	}
	// The first two are the network's and the node's.
	first := r.o.Pods.Addr().Next().Next()
	a := r.last
	for range 1 << 16 {
		if a = a.Next(); !r.o.Pods.Contains(a) || a.Less(first) {
			a = first
		}
		if !r.addresses[a] {
			r.addresses[a], r.last = true, a
			return a, nil
		}
		if a == r.last {
			break
		}
	}
	return a, grpcstatus.Errorf(codes.ResourceExhausted, "no address is free in %s", r.o.Pods)
}

// PodSandboxStatus is CRI's.
func (r *Runtime) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest, _ ...grpc.CallOption) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[req.PodSandboxId]
	if s == nil {
		return nil, grpcstatus.Errorf(codes.NotFound, "there is no sandbox %s", req.PodSandboxId)
	}
	st := &runtimeapi.PodSandboxStatus{
		Id: s.id, Metadata: s.metadata, State: s.state, CreatedAt: s.created, Labels: s.labels, Annotations: s.annotations,
		Network: &runtimeapi.PodSandboxNetworkStatus{},
	}
	if s.address.IsValid() && s.state == runtimeapi.PodSandboxState_SANDBOX_READY {
		st.Network.Ip = s.address.String()
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: st}, nil
}

// ListPodSandbox is CRI's. The order is that of their making in a pod.
func (r *Runtime) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListPodSandboxResponse{}
	f := req.GetFilter()
	add := func(s *sandbox) {
		if (f.GetId() == "" || f.Id == s.id) && (f.GetState() == nil || f.State.State == s.state) && matches(s.labels, f.GetLabelSelector()) {
			out.Items = append(out.Items, &runtimeapi.PodSandbox{
				Id: s.id, Metadata: s.metadata, State: s.state, CreatedAt: s.created, Labels: s.labels, Annotations: s.annotations,
			})
		}
	}
	if uid, one := f.GetLabelSelector()[kubelettypes.KubernetesPodUIDLabel]; one {
		if p := r.pods[uid]; p != nil {
			for _, s := range p.sandboxes {
				add(s)
			}
		}
		return out, nil
	}
	for _, s := range r.sandboxes {
		add(s)
	}
	slices.SortFunc(out.Items, func(x, y *runtimeapi.PodSandbox) int { return strings.Compare(x.Id, y.Id) })
	return out, nil
}

func matches(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// StopPodSandbox is CRI's: containers in it are killed, and its address is free.
func (r *Runtime) StopPodSandbox(_ context.Context, req *runtimeapi.StopPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.StopPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[req.PodSandboxId]; s != nil {
		r.stopped(s)
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (r *Runtime) stopped(s *sandbox) {
	if s.state == runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		return
	}
	s.state = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	delete(r.addresses, s.address)
	for _, c := range r.podOf(s).containers {
		if c.sandbox == s && c.state == runtimeapi.ContainerState_CONTAINER_RUNNING {
			r.ended(c, killed)
		}
	}
}

func (r *Runtime) podOf(s *sandbox) *pod { return r.pods[s.labels[kubelettypes.KubernetesPodUIDLabel]] }

// RemovePodSandbox is CRI's: its containers go with it.
func (r *Runtime) RemovePodSandbox(_ context.Context, req *runtimeapi.RemovePodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.RemovePodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[req.PodSandboxId]
	if s == nil {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	r.stopped(s)
	p := r.podOf(s)
	for _, c := range slices.Clone(p.containers) {
		if c.sandbox == s {
			r.remove(c)
		}
	}
	delete(r.sandboxes, s.id)
	p.sandboxes = slices.DeleteFunc(p.sandboxes, func(x *sandbox) bool { return x == s })
	if len(p.sandboxes) == 0 {
		delete(r.pods, s.labels[kubelettypes.KubernetesPodUIDLabel])
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}
