package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/write"
)

// LeaseDuration is for how long a node's Lease holds.
const LeaseDuration = 5 * time.Minute

const (
	// leaseRenewal is how long a node is heard by nobody before it says that it is there.
	leaseRenewal = 10 * time.Second
	// mostUnasked is for how long a node that is heard otherwise does not say so: a small
	// part of what a Lease has left when it is to be renewed.
	mostUnasked = 30 * time.Second
	// nodeInterval is how often the node looks at itself.
	nodeInterval = 10 * time.Second
	// maxImages is how many images a node tells of, as upstream.
	maxImages = 50
)

func (a *Agent) nodeRef() events.Ref { return events.Ref{Resource: "nodes", Name: a.o.Name} }

// register makes the node known to the cluster, or tells what is new about it.
func (a *Agent) register(ctx context.Context) error {
	for {
		err := a.tellNode(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var refused *events.RefusedError
		if errors.As(err, &refused) {
			return fmt.Errorf("the cluster does not take this node in: %w", err)
		}
		a.log.Warn("cannot register the node; trying again", "error", err)
		if !a.sleep(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// observeNode tells from time to time what is new about the node.
func (a *Agent) observeNode(ctx context.Context) {
	for a.sleep(ctx, nodeInterval) {
		if err := a.tellNode(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("cannot tell how the node is; trying again", "error", err)
		}
	}
}

// tellNode proposes what is new about the node.
func (a *Agent) tellNode(ctx context.Context) error {
	view := a.o.Projection.View()
	now := a.o.Clock.Now()
	var d events.Decision
	var err error
	if e := view.Get(a.nodeRef()); e == nil {
		d, err = a.registration(ctx, view.Sequence(), now)
	} else {
		d, err = a.observation(ctx, e, now)
	}
	if err != nil || len(d.Changes) == 0 {
		return err
	}
	receipt, err := a.o.Proposer.Propose(ctx, events.Proposal{Decision: d, Actor: a.actor, Basis: view.Sequence(), Now: now})
	var conflict *events.ConflictError
	switch {
	case errors.As(err, &conflict) && conflict.Actual > 0:
		if err := a.o.Projection.Wait(ctx, conflict.Actual); err != nil {
			return err
		}
		return a.tellNode(ctx)
	case err != nil:
		return err
	}
	return a.o.Projection.Wait(ctx, receipt.Last)
}

func (a *Agent) registration(ctx context.Context, sequence uint64, now time.Time) (events.Decision, error) {
	uid := uuid.NewSHA1(uuid.NameSpaceOID, []byte("nodes/"+a.o.Name+"/"+strconv.FormatUint(sequence, 10))).String()
	labels := map[string]string{
		v1.LabelHostname: a.o.Name, v1.LabelOSStable: "linux", v1.LabelArchStable: a.o.Machine().Info.Architecture,
	}
	for k, v := range a.o.Labels {
		labels[k] = v
	}
	n := v1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{
			Name: a.o.Name, UID: types.UID(uid), CreationTimestamp: metav1.NewTime(now.Truncate(time.Second)), Labels: labels,
		},
		Spec: v1.NodeSpec{Taints: a.o.Taints, PodCIDRs: a.o.PodCIDRs},
	}
	if len(a.o.PodCIDRs) > 0 {
		n.Spec.PodCIDR = a.o.PodCIDRs[0]
	}
	n.Status = a.nodeStatus(a.look(ctx, v1.NodeStatus{}), v1.NodeStatus{}, now)
	raw, err := write.Canonical(nil, &n)
	return events.Decision{
		Changes: []events.Change{{Type: "node.registered", Object: a.nodeRef(), UID: uid, Data: raw}},
		Expect:  []events.Expectation{{Object: a.nodeRef()}},
	}, err
}

func (a *Agent) observation(ctx context.Context, e *projections.Entry, now time.Time) (events.Decision, error) {
	d := events.Decision{Because: e.Sequence, Expect: []events.Expectation{{Object: e.Ref, Sequence: e.Sequence}}}
	before := projections.As[v1.Node](e).Status
	found := a.look(ctx, before)
	if last := a.found.Load(); last != nil && last.told == e && last.equal(found) {
		return d, nil
	}
	after := a.nodeStatus(found, before, now)
	if apiequality.Semantic.DeepEqual(before, after) {
		found.told = e
		a.found.Store(&found)
		return d, nil
	}
	typ := "node.observed"
	if was, is := ready(before), ready(after); was != is {
		typ = "node.unready"
		if is {
			typ = "node.ready"
		}
	}
	old, err := write.Canonical(nil, &before)
	if err != nil {
		return d, err
	}
	raw, err := write.Canonical(nil, &after)
	if err != nil {
		return d, err
	}
	if ops := events.AppendDiff(nil, "/status", old, raw); len(ops) > 0 {
		d.Changes = []events.Change{{Type: typ, Object: e.Ref, UID: e.UID, Data: events.AppendPatch(nil, ops)}}
	}
	return d, nil
}

func ready(st v1.NodeStatus) bool {
	for _, c := range st.Conditions {
		if c.Type == v1.NodeReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

// self is what a node finds when it looks at itself.
type self struct {
	machine Machine
	images  []v1.ContainerImage
	unready string // why the runtime cannot run pods, empty if it can

	// told is the version of the node that says all of it.
	told *projections.Entry
}

// equal says whether a node has found the same again.
func (s *self) equal(o self) bool {
	return s.machine == o.machine && s.unready == o.unready && slices.EqualFunc(s.images, o.images, func(x, y v1.ContainerImage) bool {
		return x.SizeBytes == y.SizeBytes && slices.Equal(x.Names, y.Names)
	})
}

// look looks at the node. What does not answer is as it was told before.
func (a *Agent) look(ctx context.Context, before v1.NodeStatus) self {
	s := self{machine: a.o.Machine(), images: before.Images, unready: a.unready(ctx)}
	s.machine.Info.KubeletVersion = a.o.KubernetesVersion
	s.machine.Info.ContainerRuntimeVersion = before.NodeInfo.ContainerRuntimeVersion
	if v, err := a.o.Containers.Version(ctx, &runtimeapi.VersionRequest{}); err == nil {
		s.machine.Info.ContainerRuntimeVersion = v.RuntimeName + "://" + strings.TrimPrefix(v.RuntimeVersion, "v")
	}
	if list, err := a.o.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{}); err == nil {
		s.images = images(list.Images)
	}
	return s
}

// nodeStatus is how the node is, by what it has found.
func (a *Agent) nodeStatus(found self, before v1.NodeStatus, now time.Time) v1.NodeStatus {
	m := found.machine
	st := *before.DeepCopy()
	st.Capacity, st.Allocatable = m.capacity(a.o.MaxPods), m.allocatable(a.o.MaxPods)
	st.Addresses = nil
	for _, ip := range a.o.Addresses {
		st.Addresses = append(st.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
	}
	// The API server finds the node's agent by this name.
	st.Addresses = append(st.Addresses, v1.NodeAddress{Type: v1.NodeHostName, Address: a.o.Name})
	st.DaemonEndpoints.KubeletEndpoint.Port = 10250
	st.NodeInfo, st.Images = m.Info, found.images
	well := "reprise says that the node is well"
	for _, c := range []v1.NodeConditionType{v1.NodeMemoryPressure, v1.NodeDiskPressure, v1.NodePIDPressure} {
		nodeCondition(&st, c, v1.ConditionFalse, "KubeletHasSufficient"+strings.TrimSuffix(string(c), "Pressure"), well, now)
	}
	if found.unready != "" {
		nodeCondition(&st, v1.NodeReady, v1.ConditionFalse, "KubeletNotReady", found.unready, now)
	} else {
		nodeCondition(&st, v1.NodeReady, v1.ConditionTrue, "KubeletReady", well, now)
	}
	return st
}

// unready says why the runtime cannot run pods, empty if it can. Of the
// runtime's conditions only the two that CRI requires count; others are advice.
func (a *Agent) unready(ctx context.Context) string {
	st, err := a.o.Containers.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return "the container runtime does not answer: " + message(err)
	}
	var why []string
	for _, c := range st.Status.GetConditions() {
		if !c.Status && (c.Type == runtimeapi.RuntimeReady || c.Type == runtimeapi.NetworkReady) {
			why = append(why, fmt.Sprintf("%s is false: %s: %s", c.Type, c.Reason, c.Message))
		}
	}
	return strings.Join(why, "; ")
}

// nodeCondition sets a condition. That it still holds is told by the lease, so
// its heartbeat moves only when something changes.
func nodeCondition(st *v1.NodeStatus, typ v1.NodeConditionType, value v1.ConditionStatus, reason, message string, now time.Time) {
	at := metav1.NewTime(now.Truncate(time.Second))
	for i := range st.Conditions {
		c := &st.Conditions[i]
		if c.Type != typ {
			continue
		}
		if c.Status != value {
			c.LastTransitionTime = at
		}
		if c.Status != value || c.Reason != reason || c.Message != message {
			c.Status, c.Reason, c.Message, c.LastHeartbeatTime = value, reason, message, at
		}
		return
	}
	st.Conditions = append(st.Conditions, v1.NodeCondition{
		Type: typ, Status: value, Reason: reason, Message: message, LastHeartbeatTime: at, LastTransitionTime: at,
	})
}

func images(list []*runtimeapi.Image) []v1.ContainerImage {
	var out []v1.ContainerImage
	for _, i := range list {
		names := append(slices.Clone(i.RepoDigests), i.RepoTags...)
		slices.Sort(names)
		out = append(out, v1.ContainerImage{Names: names, SizeBytes: int64(i.Size)})
	}
	slices.SortFunc(out, func(x, y v1.ContainerImage) int {
		if d := y.SizeBytes - x.SizeBytes; d != 0 {
			return int(max(min(d, 1), -1))
		}
		return slices.Compare(x.Names, y.Names)
	})
	return out[:min(len(out), maxImages)]
}

// renew tells that the node is alive, again and again.
func (a *Agent) renew(ctx context.Context) {
	for {
		heard, err := a.renewOnce(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("cannot renew the node's lease; trying again", "error", err)
		}
		if !a.restUnheard(ctx, heard) {
			return
		}
	}
}

// restUnheard waits for leaseRenewal, and says whether ctx still goes on. If a server has heard
// this node and wants its Lease as it is, it waits until that has passed since the node was
// heard last, be it by what it proposed; but no longer than mostUnasked, for only who is asked
// says that the Lease is to be renewed, nor once the node is gone, or is another, which has none.
func (a *Agent) restUnheard(ctx context.Context, heard *projections.Entry) bool {
	began := a.o.Clock.Now()
	for wait := leaseRenewal; wait > 0; {
		if !a.sleep(ctx, wait) {
			return false
		}
		if heard == nil || a.o.Heard == nil {
			return true
		}
		if e := a.o.Projection.View().Get(a.nodeRef()); e == nil || e.UID != heard.UID {
			return true
		}
		until := a.o.Heard().Add(leaseRenewal)
		if most := began.Add(mostUnasked); until.After(most) {
			until = most
		}
		wait = until.Sub(a.o.Clock.Now())
	}
	return true
}

// renewOnce returns the node as a server has heard it that does not want its Lease renewed. Else
// it renews that.
func (a *Agent) renewOnce(ctx context.Context) (heard *projections.Entry, err error) {
	e := a.o.Projection.View().Get(a.nodeRef())
	if e == nil {
		return nil, a.tellNode(ctx) // Somebody has removed the node while it lives.
	}
	if a.o.Alive != nil {
		// If nobody hears it, the log may.
		if renew, err := a.o.Alive(ctx); err == nil && !renew {
			return e, nil
		}
	}
	return nil, a.renewLease(ctx, e)
}

// renewLease renews the Lease of the node that is e, or makes it one.
func (a *Agent) renewLease(ctx context.Context, e *projections.Entry) error {
	now := a.o.Clock.Now()
	ref := events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: v1.NamespaceNodeLease, Name: a.o.Name}
	uid := uuid.NewSHA1(uuid.NameSpaceOID, []byte("leases/"+e.UID)).String()
	seconds := int32(LeaseDuration / time.Second)
	at := metav1.NewMicroTime(now)
	raw, err := write.Canonical(nil, coordinationv1.Lease{
		TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{
			Name: ref.Name, Namespace: ref.Namespace, UID: types.UID(uid), CreationTimestamp: e.Meta().CreationTimestamp,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: a.o.Name, UID: types.UID(e.UID)}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &a.o.Name, LeaseDurationSeconds: &seconds, RenewTime: &at},
	})
	if err != nil {
		return err
	}
	_, err = a.o.Proposer.Propose(ctx, events.Proposal{Actor: a.actor, Now: now, Decision: events.Decision{
		Changes: []events.Change{{Type: "lease.renewed", Object: ref, UID: uid, Data: raw, Optional: true}},
	}})
	return err
}
