package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/agents/node/status"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// node is a node's agent. The machine below it, with the runtime, outlives it.
type node struct {
	host
	actor   events.Actor
	machine *machine

	// What the agent knows: its share of the cluster, as the feed tells it.
	mirror  *projections.State
	view    projections.Reader
	server  *server
	epoch   uint64
	number  uint64
	ready   bool
	began   *bell
	waiting []waiting

	workers map[string]*worker
	seen    map[string]int // the runtime's versions of pods when last listed
	lost    bool           // for good
}

func newNode(w *world, i int) *node {
	name := fmt.Sprintf("n%d", i)
	n := &node{host: w.host(name), actor: events.Actor{Kind: "node", Name: name}, machine: newMachine(w, name)}
	n.machine.start()
	n.boot()
	return n
}

// boot starts the agent with nothing in its memory.
func (n *node) boot() {
	n.host.start()
	n.mirror = projections.NewState()
	n.view = n.mirror.View()
	n.ready, n.began, n.waiting = false, &bell{}, nil
	n.workers, n.seen = map[string]*worker{}, map[string]int{}
	n.every(5*time.Second, func() { n.ask(0) })
	n.run(0, func() {
		n.subscribe()
		n.w.await(n.began)
		for !n.tellSelf() {
			n.w.sleep(time.Second)
		}
		n.discover()
		n.renew()
		n.every(n.w.between(9*time.Second, 10*time.Second), n.renew)
		n.every(10*time.Second, func() { n.host.begin(func() { n.tellSelf() }) })
		n.every(10*time.Second, n.relist)
	})
}

func (n *node) self() events.Ref { return events.Ref{Resource: "nodes", Name: n.name} }

// propose proposes something on the agent's behalf.
func (n *node) propose(d events.Decision, basis uint64, now time.Time) (events.Receipt, error) {
	return proposer{n.w, &n.host, nil}.Propose(context.Background(), events.Proposal{Decision: d, Actor: n.actor, Basis: basis, Now: now})
}

// tellSelf registers the node, or tells what is new about it, and says whether it
// was heard.
func (n *node) tellSelf() bool {
	now := n.w.time()
	e := n.view.Get(n.self())
	var d events.Decision
	if e == nil {
		d = n.registration(now)
	} else {
		before := projections.As[core.Node](e)
		if well(before) {
			return true
		}
		after := n.condition(before.Status, now)
		x, some := runner.UpdatePart(e, "node.ready", "/status", before.Status, after, e.Sequence)
		if !some {
			return true
		}
		d = x
	}
	receipt, err := n.propose(d, n.view.Sequence(), now)
	if conflict := conflictOf(err); conflict != nil && conflict.Actual > 0 {
		n.reach(conflict.Actual)
		return n.tellSelf()
	}
	if err != nil {
		return false
	}
	n.reach(receipt.Last)
	return true
}

// well says that the cluster knows that the node is.
func well(n *core.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == core.NodeReady {
			return c.Status == core.ConditionTrue
		}
	}
	return false
}

// condition is the status of a node that is well.
func (n *node) condition(before core.NodeStatus, now time.Time) core.NodeStatus {
	after := *before.DeepCopy()
	at := metav1.NewTime(now.Truncate(time.Second))
	for i := range after.Conditions {
		if c := &after.Conditions[i]; c.Type == core.NodeReady {
			if c.Status != core.ConditionTrue {
				*c = core.NodeCondition{Type: core.NodeReady, Status: core.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: at, LastTransitionTime: at}
			}
			return after
		}
	}
	after.Conditions = append(after.Conditions, core.NodeCondition{
		Type: core.NodeReady, Status: core.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: at, LastTransitionTime: at})
	return after
}

// room is what pods may request on a node.
const room = 4

func (n *node) registration(now time.Time) events.Decision {
	list := core.ResourceList{core.ResourceCPU: *resource.NewQuantity(room, resource.DecimalSI), core.ResourcePods: *resource.NewQuantity(110, resource.DecimalSI)}
	uid := n.w.uid()
	o := core.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: n.name, UID: types.UID(uid), CreationTimestamp: metav1.NewTime(now.Truncate(time.Second)), Labels: map[string]string{core.LabelHostname: n.name}},
		Status:     n.condition(core.NodeStatus{Capacity: list, Allocatable: list}, now),
	}
	return events.Decision{
		Changes: []events.Change{{Type: "node.registered", Object: n.self(), UID: uid, Data: runner.Encode(o)}},
		Expect:  []events.Expectation{{Object: n.self()}},
	}
}

// renew tells every server that the node is alive.
func (n *node) renew() {
	e := n.view.Get(n.self())
	if e == nil {
		n.host.begin(func() { n.tellSelf() }) // somebody has removed the node while it lives
		return
	}
	at := metav1.NewMicroTime(n.w.time())
	ref := events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: core.NamespaceNodeLease, Name: n.name}
	raw := runner.Encode(coordination.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Name: ref.Name, Namespace: ref.Namespace, UID: types.UID("lease-" + e.UID)},
		Spec:       coordination.LeaseSpec{RenewTime: &at},
	})
	for _, s := range n.w.servers {
		n.send(&s.host, func() { s.hear(projections.NewEntry(ref, "lease-"+e.UID, 1, uint64(n.w.now), raw)) })
	}
}

// discover has every pod looked at that the cluster or the runtime has.
func (n *node) discover() {
	for e := range n.view.OnNode(n.name) {
		n.see(e.UID, e.Ref)
	}
	for _, p := range n.machine.list() {
		n.see(p.uid, p.ref)
	}
}

// relist has those pods looked at of which something changed unsaid, and now and
// then all.
func (n *node) relist() {
	all := n.w.chance(150)
	for _, p := range n.machine.list() {
		if n.workers[p.uid] == nil || n.seen[p.uid] != p.version || all {
			n.see(p.uid, p.ref)
		}
		n.seen[p.uid] = p.version
	}
	if all {
		for e := range n.view.OnNode(n.name) {
			n.see(e.UID, e.Ref)
		}
	}
}

// see makes sure that a pod has a worker, and has it look.
func (n *node) see(uid string, ref events.Ref) {
	if k := n.workers[uid]; k != nil {
		k.kick()
		return
	}
	k := newWorker(n, uid, ref)
	n.workers[uid] = k
	n.run(0, k.run)
}

// tell proposes what is new about a pod, as the agent does, and says whether the
// cluster then knows all there is to tell.
func (k *worker) tell(p *podView) (told, heard bool) {
	n := k.node
	for range 5 {
		entry, pod := k.pod()
		p.Desired = pod
		if pod == nil {
			return false, true
		}
		now := n.w.time()
		if pod.DeletionTimestamp != nil && len(p.Sandboxes) == 0 && len(p.Containers) == 0 {
			return true, true
		}
		steps := status.Steps(p.Pod, status.Compute(p.Pod, []string{"192.0.2.1"}, now))
		if len(steps) == 0 || k.early(p, steps) {
			return len(steps) == 0, true
		}
		d, err := status.Decide(entry, pod.Status, steps)
		if err != nil {
			n.w.fail("a node can say what it sees", "%s: %v", n.name, err)
			return false, false
		}
		if len(d.Changes) == 0 {
			return true, true
		}
		receipt, err := n.propose(d, n.view.Sequence(), now)
		if err == nil {
			if n.w.bugs.ExitTwice && slices.ContainsFunc(steps, func(s status.Step) bool { return s.Type == "container.exited" }) {
				k.again(entry.Ref, steps)
			}
			clear(p.Untold)
		}
		var at uint64
		if conflict := conflictOf(err); conflict != nil {
			if at = conflict.Actual; at == 0 {
				return false, true
			}
		} else if err != nil {
			return false, false
		}
		n.reach(max(at, receipt.Last))
	}
	return false, true
}

// early says that the pod has only just come and nothing has gone wrong.
func (k *worker) early(p *podView, steps []status.Step) bool {
	return p.Desired.Status.StartTime == nil && p.Desired.DeletionTimestamp == nil && len(k.failures) == 0 &&
		len(p.Containers) == 0 && len(steps) == 1 && steps[0].Type == "pod.observed"
}
