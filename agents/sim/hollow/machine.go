package hollow

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/hooks"
	"github.com/reprise-run/reprise/agents/node/volumes"
	"github.com/reprise-run/reprise/events"
)

// images are CRI's service of images: each is there when it has been pulled, and
// if no profile says how long that takes they all are.
type images struct {
	runtimeapi.ImageServiceClient
	r *Runtime

	mu     sync.Mutex
	pulled map[string]int // how often a pull was tried, negative when it is there
}

// ImageStatus is CRI's.
func (i *images) ImageStatus(_ context.Context, req *runtimeapi.ImageStatusRequest, _ ...grpc.CallOption) (*runtimeapi.ImageStatusResponse, error) {
	name := req.Image.GetImage()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pulled[name] >= 0 && (i.r.o.Profile.Pull != Span{} || i.r.o.Profile.PullFailures > 0) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: name, RepoTags: []string{name}}}, nil
}

// PullImage is CRI's.
func (i *images) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest, _ ...grpc.CallOption) (*runtimeapi.PullImageResponse, error) {
	name := req.Image.GetImage()
	i.mu.Lock()
	if i.pulled == nil {
		i.pulled = map[string]int{}
	}
	try := i.pulled[name]
	if try >= 0 {
		i.pulled[name]++
	}
	i.mu.Unlock()
	dice := i.r.dice("pull", nil, name, uint32(try))
	if err := i.r.o.Timeline.sleep(ctx, dice.draw(i.r.o.Profile.Pull)); err != nil {
		return nil, err
	}
	if dice.hits(i.r.o.Profile.PullFailures) {
		return nil, grpcstatus.Error(codes.Unavailable, "the profile wants this pull to fail")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pulled[name] = -1
	return &runtimeapi.PullImageResponse{ImageRef: name}, nil
}

// ListImages is CRI's. It tells none: real nodes have a few, the same for years.
func (i *images) ListImages(context.Context, *runtimeapi.ListImagesRequest, ...grpc.CallOption) (*runtimeapi.ListImagesResponse, error) {
	return &runtimeapi.ListImagesResponse{}, nil
}

// Disk is a node's disk that only remembers of which pods there is something. Pods
// get no tokens, and no file is ever written.
type Disk struct {
	mu   sync.Mutex
	pods map[types.UID]bool
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{pods: map[types.UID]bool{}} }

// Pods is node.Disk's.
func (d *Disk) Pods() ([]types.UID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]types.UID, 0, len(d.pods))
	for uid := range d.pods {
		all = append(all, uid)
	}
	return all, nil
}

// Has is node.Disk's.
func (d *Disk) Has(uid types.UID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pods[uid]
}

// Prepare is node.Disk's.
func (d *Disk) Prepare(_ context.Context, pod *v1.Pod, _ volumes.Objects) (again time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pods[pod.UID] = true
	return time.Time{}, nil
}

// Mount is node.Disk's.
func (d *Disk) Mount(_ *v1.Pod, m *v1.VolumeMount, _ volumes.Objects, _ func(string) string) (*runtimeapi.Mount, error) {
	return &runtimeapi.Mount{ContainerPath: m.MountPath}, nil
}

// Hidden is node.Disk's. A hollow runtime hides nothing, so nobody asks.
func (d *Disk) Hidden(types.UID, string) *volumes.Hidden { return nil }

// MakeLogs is node.Disk's.
func (d *Disk) MakeLogs(string) error { return nil }

// Files is node.Disk's.
func (d *Disk) Files(*v1.Pod, *v1.Container, uint32, func(string) string) ([]*runtimeapi.Mount, error) {
	return nil, nil
}

// LastWords is node.Disk's.
func (d *Disk) LastWords(events.Ref, types.UID, string, uint32, bool) string { return "" }

// Remove is node.Disk's.
func (d *Disk) Remove(uid types.UID, _ bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pods, uid)
	return nil
}

// Probes finds that every container that runs is well.
type Probes struct{}

// Probe is probes.Caller's.
func (Probes) Probe(context.Context, *v1.Probe, hooks.Target) error { return nil }
