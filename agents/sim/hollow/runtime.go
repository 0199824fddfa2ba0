package hollow

import (
	"context"
	"net/netip"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// Options are what the runtime of one node needs.
type Options struct {
	// Node is its name: what is drawn from the seed differs from node to node.
	Node    string
	Seed    uint64
	Profile Profile
	// Pods is the range of the pods' addresses.
	Pods netip.Prefix
	// Timeline is shared by the runtimes of a process.
	Timeline *Timeline
}

// Runtime is the container runtime of one node. It is a client of CRI with no
// server behind it.
type Runtime struct {
	runtimeapi.RuntimeServiceClient
	images
	o Options

	mu         sync.Mutex
	ids        uint64
	pods       map[string]*pod // by uid
	sandboxes  map[string]*sandbox
	containers map[string]*container
	addresses  map[netip.Addr]bool // that are taken
	last       netip.Addr
	streams    map[*stream]bool
}

// pod is what the runtime has of one pod.
type pod struct {
	sandboxes  []*sandbox
	containers []*container
}

// sandbox is what the runtime has of a sandbox.
type sandbox struct {
	id                  string
	metadata            *runtimeapi.PodSandboxMetadata
	state               runtimeapi.PodSandboxState
	created             int64
	address             netip.Addr
	labels, annotations map[string]string
}

// container is what the runtime has of an attempt at a container.
type container struct {
	id                         string
	sandbox                    *sandbox
	metadata                   *runtimeapi.ContainerMetadata
	state                      runtimeapi.ContainerState
	image                      string
	created, started, finished int64
	exit                       int32
	reason, message            string
	labels, annotations        map[string]string
	end                        *entry // when it is going to end by itself
}

// New returns a runtime that has nothing yet.
func New(o Options) *Runtime {
	r := &Runtime{
		RuntimeServiceClient: runtimeapi.NewRuntimeServiceClient(nobody{}), o: o,
		pods: map[string]*pod{}, sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
		addresses: map[netip.Addr]bool{}, last: o.Pods.Addr(), streams: map[*stream]bool{},
	}
	r.images = images{ImageServiceClient: runtimeapi.NewImageServiceClient(nobody{}), r: r}
	return r
}

// nobody answers what a hollow node cannot do, such as exec.
type nobody struct{}

// Invoke and NewStream are grpc.ClientConnInterface's.
func (nobody) Invoke(_ context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	return grpcstatus.Error(codes.Unimplemented, "a hollow node cannot do this: "+method)
}

func (nobody) NewStream(_ context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, grpcstatus.Error(codes.Unimplemented, "a hollow node cannot do this: "+method)
}

// dice are those for something that happens to an attempt at a container, or to a
// pod's sandbox.
func (r *Runtime) dice(what string, labels map[string]string, name string, attempt uint32) dice {
	return roll(r.o.Seed, r.o.Node, what, labels[kubelettypes.KubernetesPodNamespaceLabel], labels[kubelettypes.KubernetesPodNameLabel],
		name, strconv.FormatUint(uint64(attempt), 10))
}

// id names something new. Called with mu held.
func (r *Runtime) id(kind string) string {
	r.ids++
	return kind + "-" + r.o.Node + "-" + strconv.FormatUint(r.ids, 36)
}

// Size says how many sandboxes and containers there are, ended ones too.
func (r *Runtime) Size() (sandboxes, containers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sandboxes), len(r.containers)
}

// Exit has the container of a name that runs end by itself, in any pod, and says
// whether there was one.
func (r *Runtime) Exit(name string, code int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.metadata.Name == name && c.state == runtimeapi.ContainerState_CONTAINER_RUNNING {
			r.ended(c, code)
			return true
		}
	}
	return false
}

// ended takes note of a container's end, and tells those who listen. Called with mu
// held.
func (r *Runtime) ended(c *container, code int32) {
	r.o.Timeline.cancel(c.end)
	c.end = nil
	c.state, c.exit, c.finished, c.reason = runtimeapi.ContainerState_CONTAINER_EXITED, code, r.o.Timeline.Now().UnixNano(), "Completed"
	if code != 0 {
		c.reason = "Error"
	}
	for s := range r.streams {
		s.put(&runtimeapi.ContainerEventResponse{
			ContainerId: c.id, ContainerEventType: runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT,
			CreatedAt: c.finished, PodSandboxStatus: &runtimeapi.PodSandboxStatus{Id: c.sandbox.id, Labels: c.sandbox.labels},
		})
	}
}

// Version is CRI's.
func (r *Runtime) Version(context.Context, *runtimeapi.VersionRequest, ...grpc.CallOption) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{RuntimeName: "hollow", RuntimeVersion: "v1", RuntimeApiVersion: "v1"}, nil
}

// Status is CRI's.
func (r *Runtime) Status(context.Context, *runtimeapi.StatusRequest, ...grpc.CallOption) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true},
	}}}, nil
}

// GetContainerEvents is CRI's. Of what it may tell it tells ends of containers:
// who asked for anything else knows that it happened.
func (r *Runtime) GetContainerEvents(ctx context.Context, _ *runtimeapi.GetEventsRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[runtimeapi.ContainerEventResponse], error) {
	s := &stream{ctx: ctx, more: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[s] = true
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.streams, s)
	})
	return s, nil
}

// stream is what one listener has yet to hear.
type stream struct {
	grpc.ClientStream
	ctx  context.Context
	more chan struct{}

	mu      sync.Mutex
	waiting []*runtimeapi.ContainerEventResponse
}

func (s *stream) put(e *runtimeapi.ContainerEventResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, e)
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Recv is grpc.ServerStreamingClient's.
func (s *stream) Recv() (*runtimeapi.ContainerEventResponse, error) {
	for {
		s.mu.Lock()
		if len(s.waiting) > 0 {
			e := s.waiting[0]
			if s.waiting = s.waiting[1:]; len(s.waiting) == 0 {
				s.waiting = nil
			}
			s.mu.Unlock()
			return e, nil
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
}
