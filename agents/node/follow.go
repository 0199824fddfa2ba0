package node

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// relisting is how often the runtime is asked for everything, whether or not it
// said that something happened; each time of lookings, every pod is looked at.
const (
	relisting = 10 * time.Second
	lookings  = 6
)

// discover finds all pods that the cluster, the runtime or the disk has, and returns
// what changes of the cluster from there.
func (a *Agent) discover(ctx context.Context) (live.Changes, error) {
	for {
		err := a.discoverRuntime(ctx)
		if err == nil {
			break
		}
		a.log.Warn("the container runtime does not answer; trying again", "error", err)
		if !a.sleep(ctx, time.Second) {
			return nil, ctx.Err()
		}
	}
	left, err := a.disk.Pods()
	if err != nil {
		return nil, err
	}
	if a.o.Cgroups != nil {
		uids, err := a.o.Cgroups.Pods()
		if err != nil {
			return nil, fmt.Errorf("cannot list the control groups of pods: %w", err)
		}
		for _, uid := range uids {
			left = append(left, types.UID(uid))
		}
	}
	changes, err := a.discoverView(ctx)
	if err != nil {
		return nil, err
	}
	known := a.all()
	for _, uid := range left {
		if !slices.Contains(known, uid) {
			a.see(uid, events.Ref{})
		}
	}
	return changes, nil
}

// discoverView finds the pods that the cluster has, and returns what changes from
// there. It begins to follow before it looks, as a projection may keep no more of the
// past than those who follow have yet to hear.
func (a *Agent) discoverView(ctx context.Context) (live.Changes, error) {
	changes, err := a.o.Projection.Changes(ctx, a.o.Projection.View().Sequence())
	for errors.Is(err, live.ErrTooOld) {
		changes, err = a.o.Projection.Changes(ctx, a.o.Projection.View().Sequence())
	}
	if err != nil {
		return nil, err
	}
	// What changed before is not told: it may be anything that these pods depend on.
	for _, uid := range a.all() {
		a.refresh(uid)
	}
	for e := range a.o.Projection.View().OnNode(a.o.Name) {
		a.see(types.UID(e.UID), e.Ref)
	}
	return changes, nil
}

func (a *Agent) discoverRuntime(ctx context.Context) error {
	boxes, err := a.o.Containers.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	for _, b := range boxes.Items {
		a.see(types.UID(b.Metadata.Uid), podRef(b.Metadata.Namespace, b.Metadata.Name))
	}
	return nil
}

func podRef(namespace, name string) events.Ref {
	return events.Ref{Resource: "pods", Namespace: namespace, Name: name}
}

// follow has each pod looked at when something that it depends on changes.
func (a *Agent) follow(ctx context.Context, changes live.Changes) error {
	for {
		batch, err := changes.Next(ctx)
		if errors.Is(err, live.ErrTooOld) {
			changes, err = a.discoverView(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot follow the cluster: %w", err)
		}
		for _, c := range batch {
			a.concerns(ctx, c)
		}
	}
}

// concerns finds the pods that a change is about.
func (a *Agent) concerns(ctx context.Context, c projections.Change) {
	e := c.Entry()
	if e.Ref.Group != "" {
		return
	}
	switch e.Ref.Resource {
	case "pods":
		switch {
		case e.Node() != a.o.Name:
		case c.After == nil:
			a.kick(types.UID(e.UID)) // Who has no worker left nothing here.
		default:
			a.hear(e)
		}
	case "configmaps", "secrets", "persistentvolumeclaims", "persistentvolumes":
		for pod := range a.o.Projection.View().OnNode(a.o.Name) {
			// Who has no worker yet is going to look at things as they are then.
			if a.knows(types.UID(pod.UID)) && uses(projections.As[v1.Pod](pod), e.Ref) {
				a.refresh(types.UID(pod.UID))
			}
		}
	}
}

// refresh has a pod's volumes brought up to date.
func (a *Agent) refresh(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[uid]; w != nil {
		w.stale.Store(true)
		w.kick()
	}
}

// uses says whether a pod speaks of an object.
func uses(pod *v1.Pod, ref events.Ref) bool {
	found := false
	visit := func(name string) bool {
		found = found || name == ref.Name
		return !found
	}
	switch {
	case ref.Resource == "persistentvolumes":
		return len(pod.Spec.Volumes) > 0
	case ref.Namespace != pod.Namespace:
	case ref.Resource == "configmaps":
		podutil.VisitPodConfigmapNames(pod, visit)
	case ref.Resource == "secrets":
		podutil.VisitPodSecretNames(pod, visit)
	default:
		for i := range pod.Spec.Volumes {
			if c := pod.Spec.Volumes[i].PersistentVolumeClaim; c != nil {
				visit(c.ClaimName)
			}
		}
	}
	return found
}

// watchRuntime has a pod looked at as soon as the runtime says that something of
// it started or ended, and all pods from time to time.
func (a *Agent) watchRuntime(ctx context.Context) {
	a.start(func() { a.relist(ctx) })
	for ctx.Err() == nil {
		stream, err := a.o.Containers.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
		if err == nil {
			// What happened before the stream began is seen by looking.
			for _, uid := range a.all() {
				a.kick(uid)
			}
		}
		for err == nil {
			var e *runtimeapi.ContainerEventResponse
			if e, err = stream.Recv(); err == nil && e.PodSandboxStatus != nil {
				uid := e.PodSandboxStatus.Labels[kubelettypes.KubernetesPodUIDLabel]
				a.kick(types.UID(uid))
			}
		}
		a.sleep(ctx, time.Second)
	}
}

// relist compares what the runtime has with what it had, and has those pods
// looked at of which something changed unsaid.
func (a *Agent) relist(ctx context.Context) {
	seed, before := maphash.MakeSeed(), map[types.UID]uint64{}
	for round := 1; a.sleep(ctx, relisting); round++ {
		now, strangers, err := a.inventory(ctx, seed)
		if err != nil {
			continue // Whoever needs it says so.
		}
		for uid, ref := range strangers {
			a.see(uid, ref)
		}
		for _, uid := range a.all() {
			if now[uid] != before[uid] || round%lookings == 0 {
				a.kick(uid)
			}
		}
		before = now
	}
}

// inventory is what the runtime has of each pod, as a number to compare, and which
// pods of those have no worker.
func (a *Agent) inventory(ctx context.Context, seed maphash.Seed) (now map[types.UID]uint64, strangers map[types.UID]events.Ref, err error) {
	boxes, err := a.o.Containers.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return nil, nil, err
	}
	list, err := a.o.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return nil, nil, err
	}
	now, strangers = map[types.UID]uint64{}, map[types.UID]events.Ref{}
	// They come in any order, so that what is one of each is added up.
	add := func(uid types.UID, id string, state int32) {
		now[uid] += maphash.Comparable(seed, thing{id, state})
	}
	for _, b := range boxes.Items {
		uid := types.UID(b.Metadata.Uid)
		add(uid, b.Id, int32(b.State))
		if !a.knows(uid) {
			strangers[uid] = podRef(b.Metadata.Namespace, b.Metadata.Name)
		}
	}
	for _, c := range list.Containers {
		add(types.UID(c.Labels[kubelettypes.KubernetesPodUIDLabel]), c.Id, int32(c.State))
	}
	return now, strangers, nil
}

// thing is what the runtime has of a sandbox or container.
type thing struct {
	id    string
	state int32
}
