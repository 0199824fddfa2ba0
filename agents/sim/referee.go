package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// referee sees everything and checks, after each append and each start of a
// container, that the rules hold. It keeps its own fold of the log.
type referee struct {
	w      *world
	events []events.Event
	chain  [32]byte
	state  *projections.State
	marks  map[string]uint64 // the first event of each proposal, by its mark
	no     map[string]bool   // the proposals of which nothing is stored, by what was told
	claims map[uint64]uint64 // the proposal that was told that an event is its
	bound  map[string]string // the node that each pod was bound to, by uid
	exits  map[string]uint64 // the event that told of the end of an attempt
	taken  map[string]int64  // thousandths of CPUs requested on each node
	cpu    map[string]int64  // and by each pod, by uid
	// asked is what ReplicaSets asked for since which event, by uid.
	asked map[string][]asked
	// open counts the creations of pods that wait for an answer, doubts those of which
	// whoever decides next does not know whether they are stored, by the owner's uid.
	open, doubts map[string]int
}

// asked is how many replicas were asked for from an event on.
type asked struct {
	since    uint64
	replicas int32
}

func newReferee(w *world) *referee {
	return &referee{
		w: w, asked: map[string][]asked{}, cpu: map[string]int64{}, state: projections.NewState(),
		marks: map[string]uint64{}, no: map[string]bool{}, claims: map[uint64]uint64{}, open: map[string]int{}, doubts: map[string]int{},
		bound: map[string]string{}, exits: map[string]uint64{}, taken: map[string]int64{},
	}
}

// stored checks what the log has just stored, as who reads it elsewhere would: it takes
// nothing from those who wrote.
func (r *referee) stored(after uint64, batch []events.Event) {
	for i := range batch {
		e := batch[i]
		e.Sequence = after + uint64(i) + 1
		e.Forget()
		r.events = append(r.events, e)
	}
	fresh := r.events[after:]
	var err error
	if r.chain, err = events.VerifyChain(after, r.chain, fresh); err != nil {
		r.w.fail("the chain holds", "%v", err)
		return
	}
	for i := range fresh {
		changes, err := r.state.Fold(fresh[i : i+1])
		if err != nil {
			r.w.fail("what is stored can be folded", "%v", err)
			return
		}
		r.envelope(&fresh[i])
		for _, c := range changes {
			r.change(c)
		}
	}
}

// envelope checks what must hold of any event.
func (r *referee) envelope(e *events.Event) {
	if e.Cause >= e.Sequence {
		r.w.fail("causes exist", "%s has the cause %d", e.Headline(), e.Cause)
	}
	if e.Cause == 0 && e.User == "" && e.Actor.Kind != "node" && e.Type != "node.lost" {
		r.w.fail("causes exist", "%s has no cause, and nobody asked for it", e.Headline())
	}
	if err := e.Check(); err != nil {
		r.w.fail("owners only", "%v", err)
	}
	if _, there := r.marks[e.Audit]; !there {
		r.marks[e.Audit] = e.Sequence
	}
	if r.no[e.Audit] {
		r.denial(e.Audit, e.Sequence)
	}
	if e.Time.After(r.w.time()) {
		r.w.fail("no event is of the future", "%s", e.Headline())
	}
}

// change checks what must hold of pods.
func (r *referee) change(c projections.Change) {
	e := c.Entry()
	switch {
	case e.Ref.Resource == "replicasets" && c.After != nil:
		replicas := *projections.As[apps.ReplicaSet](e).Spec.Replicas
		if list := r.asked[e.UID]; len(list) == 0 || list[len(list)-1].replicas != replicas {
			r.asked[e.UID] = append(list, asked{e.Sequence, replicas})
		}
		return
	case e.Ref.Resource != "pods" || e.Ref.Group != "":
		return
	case c.Event.Type == "pod.created":
		r.surplus(c)
	}
	before, after := r.look(c.Before), r.look(c.After)
	switch {
	case !after.there:
	case c.Event.Type == "pod.bound":
		if was := r.bound[e.UID]; was != "" {
			r.w.fail("nothing is bound twice", "%s, which was bound to %s", c.Event.Headline(), was)
		}
		r.bound[e.UID] = after.node
	case before.there && before.node != after.node:
		r.w.fail("nothing is bound twice", "%s moves from %q to %q by %s", e.Ref, before.node, after.node, c.Event.Type)
	}
	if before.over() && after.there && before.phase != after.phase {
		r.w.fail("pods only move forward", "%s was %s and is %s by %s", e.Ref, before.phase, after.phase, c.Event.Headline())
	}
	r.count(before, -1)
	r.count(after, 1)
	if c.Event.Type == "pod.bound" {
		r.capacity(after.node, c.Event)
	}
	if c.Event.Type == "container.exited" {
		key := e.UID + " " + string(c.Event.Note)
		var n struct {
			Container string
			Attempt   int
		}
		if json.Unmarshal(c.Event.Note, &n) == nil {
			key = fmt.Sprintf("%s %s %d", e.UID, n.Container, n.Attempt)
		}
		if told := r.exits[key]; told != 0 {
			r.w.fail("an end is told once", "%s was told by event %d", c.Event.Headline(), told)
		}
		r.exits[key] = c.Event.Sequence
	}
}

// surplus checks that a ReplicaSet gets no more pods than it asked for, at the time
// of what the controller saw or since. A creation whose answer was lost may be made
// again by another name, for another cause may have come up.
func (r *referee) surplus(c projections.Change) {
	owner := metav1.GetControllerOfNoCopy(podOf(c.After))
	if owner == nil {
		return
	}
	active := 0
	for e := range r.state.View().Owned(string(owner.UID)) {
		if events.Lookup(e.Raw, "metadata", "deletionTimestamp") == nil && !r.look(e).over() {
			active++
		}
	}
	var most int32
	for i, a := range r.asked[string(owner.UID)] {
		if i == 0 || a.since > c.Event.Basis {
			most = max(most, a.replicas)
		} else {
			most = a.replicas
		}
	}
	if active > int(most)+r.doubts[string(owner.UID)] {
		r.w.fail("no more pods than asked for", "%s is number %d of %d", c.Event.Headline(), active, most)
	}
}

func podOf(e *projections.Entry) *core.Pod {
	if e == nil {
		return nil
	}
	return projections.As[core.Pod](e)
}

// pod is what the rules go by, read from a pod's bytes: to decode each version
// would cost as much as to decide about it.
type pod struct {
	there       bool
	node, phase string
	cpu         int64
}

func (r *referee) look(e *projections.Entry) pod {
	if e == nil {
		return pod{}
	}
	cpu, known := r.cpu[e.UID]
	if !known {
		for _, c := range podOf(e).Spec.Containers {
			cpu += c.Resources.Requests.Cpu().MilliValue()
		}
		r.cpu[e.UID] = cpu
	}
	phase, _ := events.Text(events.Lookup(e.Raw, "status", "phase"))
	return pod{true, nodeOf(e), phase, cpu}
}

func (p pod) over() bool {
	return p.phase == string(core.PodSucceeded) || p.phase == string(core.PodFailed)
}

// count adds what a pod requests to what is taken on its node.
func (r *referee) count(p pod, sign int64) {
	if p.node != "" && !p.over() {
		r.taken[p.node] += sign * p.cpu
	}
}

func (r *referee) capacity(node string, by *events.Event) {
	if taken := r.taken[node]; taken > room*1000 {
		r.w.fail("no node is over capacity", "%s: %dm of %dm on %s", by.Headline(), taken, room*1000, node)
	}
}

// acknowledged checks that what a writer was told is true: its events are in the
// log, there, once.
func (r *referee) acknowledged(id uint64, p events.Proposal, receipt events.Receipt) {
	if receipt.Last-receipt.First+1 != uint64(len(p.Changes)) || receipt.First == 0 || receipt.Last > uint64(len(r.events)) {
		r.w.fail("what is acknowledged is stored once", "proposal %d of %d changes by %s was told %d to %d", id, len(p.Changes), p.Actor, receipt.First, receipt.Last)
		return
	}
	for i, c := range p.Changes {
		e := &r.events[receipt.First-1+uint64(i)]
		if e.Type != c.Type || e.Object != c.Object || e.Actor != p.Actor || !bytes.Equal(e.Data, c.Data) {
			r.w.fail("what is acknowledged is stored once", "%s of %s was told to be event %d, which is %s", c.Type, c.Object, e.Sequence, e.Headline())
		}
		if other, claimed := r.claims[e.Sequence]; claimed {
			r.w.fail("what is acknowledged is stored once", "event %d was told to proposals %d and %d", e.Sequence, other, id)
		}
		r.claims[e.Sequence] = id
	}
	for _, x := range p.Expect {
		if is := r.lastOf(x.Object, receipt.First); is != x.Sequence {
			r.w.fail("expectations hold", "%s of %s, event %d, expected %s at %d, and it was at %d", p.Changes[0].Type, p.Changes[0].Object, receipt.First, x.Object, x.Sequence, is)
		}
	}
}

// denied checks that of what a writer was told is not appended nothing is, nor will be.
func (r *referee) denied(id uint64) {
	r.no[mark(id)] = true
	if sequence := r.marks[mark(id)]; sequence != 0 {
		r.denial(mark(id), sequence)
	}
}

// conflict checks that an event which a writer was told to have come before him is there, for
// he may wait until he sees it.
func (r *referee) conflict(id uint64, basis uint64, c *events.ConflictError) {
	if c == nil {
		return
	}
	if c.Actual == 0 {
		if !r.gone(c.Object, basis) {
			r.w.fail("conflicts are with what is stored", "proposal %d was told that %s is gone, and it has been there since %d", id, c.Object, basis)
		}
		return
	}
	if c.Actual > uint64(len(r.events)) || r.events[c.Actual-1].Object != c.Object {
		r.w.fail("conflicts are with what is stored", "proposal %d was told that %s is at %d", id, c.Object, c.Actual)
	}
}

// gone says whether an object was not there, or has become another, at some time since an event.
func (r *referee) gone(object events.Ref, since uint64) bool {
	if r.lastOf(object, since+1) == 0 {
		return true
	}
	for _, e := range r.events[min(since, uint64(len(r.events))):] {
		if e.Object == object && events.IsRemoval(e.Data) {
			return true
		}
	}
	return false
}

func (r *referee) denial(mark string, sequence uint64) {
	r.w.fail("what is denied is not stored", "proposal %s was said not to be appended, and event %d is its", mark, sequence)
}

// lastOf is the last event about an object before a sequence, 0 if it was not there
// then.
func (r *referee) lastOf(object events.Ref, before uint64) uint64 {
	for i := int(before) - 2; i >= 0; i-- {
		if e := &r.events[i]; e.Object == object {
			if events.IsRemoval(e.Data) {
				return 0
			}
			return e.Sequence
		}
	}
	return 0
}

// running checks that no pod runs on two nodes.
func (r *referee) running() {
	on := map[string]string{}
	for _, n := range r.w.nodes {
		for _, p := range n.machine.list() {
			for i := range p.containers {
				if p.containers[i].State != plan.Running {
					continue
				}
				if other := on[p.uid]; other != "" && other != n.name {
					r.w.fail("no pod is on two nodes", "%s runs on %s and %s", p.ref, other, n.name)
				}
				on[p.uid] = n.name
			}
		}
	}
}

// unsettled says what is not yet as it should be.
func (r *referee) unsettled() string {
	v := r.state.View()
	var wrong []string
	owned := map[string]int{}
	waiting := 0
	for e := range v.List("", "pods", "") {
		p := podOf(e)
		switch {
		case p.DeletionTimestamp != nil:
			wrong = append(wrong, fmt.Sprintf("%s is still being deleted", e.Ref))
		case p.Spec.NodeName == "":
			waiting++
		case v.Get(events.Ref{Resource: "nodes", Name: p.Spec.NodeName}) == nil:
			wrong = append(wrong, fmt.Sprintf("%s is on the node %s, which is gone", e.Ref, p.Spec.NodeName))
		case !podutil.IsPodReady(p):
			wrong = append(wrong, fmt.Sprintf("%s on %s is not ready: %s", e.Ref, p.Spec.NodeName, p.Status.Phase))
		}
		for _, o := range p.OwnerReferences {
			owned[string(o.UID)]++
		}
	}
	for e := range v.List("apps", "replicasets", "") {
		s := projections.As[apps.ReplicaSet](e)
		if want := int(*s.Spec.Replicas); owned[e.UID] != want {
			wrong = append(wrong, fmt.Sprintf("%s has %d pods of %d", e.Ref, owned[e.UID], want))
		}
		if s.Status.Replicas != *s.Spec.Replicas || s.Status.ObservedGeneration != s.Generation {
			wrong = append(wrong, fmt.Sprintf("%s says that it has %d pods of %d, as of generation %d of %d", e.Ref, s.Status.Replicas, *s.Spec.Replicas, s.Status.ObservedGeneration, s.Generation))
		}
		delete(owned, e.UID)
	}
	for uid, n := range owned {
		wrong = append(wrong, fmt.Sprintf("%d pods are owned by %s, which is not there", n, uid))
	}
	for e := range v.List("apps", "deployments", "") {
		wrong = append(wrong, r.deployment(v, e, waiting)...)
	}
	wrong = append(wrong, r.nodes(v)...)
	sort.Strings(wrong)
	return strings.Join(wrong, "; ")
}

// deployment says what is wrong with one, where pods that wait for room excuse it.
func (r *referee) deployment(v projections.Reader, e *projections.Entry, waiting int) []string {
	d := projections.As[apps.Deployment](e)
	var wrong []string
	if d.Status.ObservedGeneration != d.Generation {
		wrong = append(wrong, fmt.Sprintf("%s was observed at generation %d of %d", e.Ref, d.Status.ObservedGeneration, d.Generation))
	}
	if waiting > 0 {
		if !r.full(v) {
			wrong = append(wrong, fmt.Sprintf("%d pods wait though there is room", waiting))
		}
		return wrong
	}
	if want := *d.Spec.Replicas; d.Status.AvailableReplicas != want || d.Status.UpdatedReplicas != want || d.Status.Replicas != want {
		wrong = append(wrong, fmt.Sprintf("%s wants %d and has %d, %d of them updated, %d available", e.Ref, want, d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas))
	}
	return wrong
}

// full says that no pod that waits would fit on any node that takes pods.
func (r *referee) full(v projections.Reader) bool {
	for p := range v.OnNode("") {
		need := podOf(p).Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
		for e := range v.List("", "nodes", "") {
			n := projections.As[core.Node](e)
			if !n.Spec.Unschedulable && len(n.Spec.Taints) == 0 && r.taken[n.Name]+need <= room*1000 {
				return false
			}
		}
	}
	return true
}

// nodes says where nodes are not as the log says, and the other way round.
func (r *referee) nodes(v projections.Reader) []string {
	var wrong []string
	for _, n := range r.w.nodes {
		if n.lost {
			continue
		}
		e := v.Get(n.self())
		if e == nil {
			wrong = append(wrong, n.name+" is not registered")
			continue
		}
		for _, c := range projections.As[core.Node](e).Status.Conditions {
			if c.Type == core.NodeReady && c.Status != core.ConditionTrue {
				wrong = append(wrong, n.name+" is not ready")
			}
		}
		for _, p := range n.machine.list() {
			if e := v.Get(p.ref); e == nil || e.UID != p.uid {
				wrong = append(wrong, fmt.Sprintf("%s still has %s", n.name, p.ref))
			}
		}
	}
	return wrong
}

// final checks that all folds agree.
func (r *referee) final() {
	want := projections.Hash(r.state.View())
	for _, s := range r.w.servers {
		if !s.up {
			continue
		}
		if s.view.Sequence() != r.state.Sequence() || projections.Hash(s.view) != want {
			r.w.fail("folds agree", "that of %s at %d differs from the referee's at %d", s.name, s.view.Sequence(), r.state.Sequence())
		}
	}
	for _, s := range r.w.servers {
		for resource := range s.view.Resources() {
			for e := range s.view.List(resource.Group, resource.Resource, "") {
				r.w.intact(e)
			}
		}
	}
	whole := projections.NewState()
	if _, err := whole.Fold(r.events); err != nil || projections.Hash(whole.View()) != want {
		r.w.fail("folds agree", "folding all at once gives another state (%v)", err)
	}
	for _, n := range r.w.nodes {
		if n.lost {
			continue
		}
		for resource := range n.view.Resources() {
			for e := range n.view.List(resource.Group, resource.Resource, "") {
				o := r.state.View().Get(e.Ref)
				if o == nil {
					r.w.fail("folds agree", "%s knows %s as of %d, and it is gone", n.name, e.Ref, e.Sequence)
				} else if o.Sequence != e.Sequence || !bytes.Equal(o.Raw, e.Raw) {
					r.w.fail("folds agree", "%s knows %s as of %d, and it is at %d", n.name, e.Ref, e.Sequence, o.Sequence)
				}
			}
		}
	}
}

// intact checks that nobody has changed an object that all share.
func (w *world) intact(e *projections.Entry) {
	if err := e.Intact(); err != nil {
		w.fail("objects stay as they were read", "%v", err)
	}
}
