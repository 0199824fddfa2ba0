// Package scheduler decides which node each pod runs on. It is the only binder:
// nobody else writes spec.nodeName of a pod that waits for a node, so that what
// it counts against a node's capacity is all that there is.
//
// The runner calls it with one work item for all pods that wait, because they
// compete for the same room: they are taken in the order of the queue (priority,
// then age), and each pod that gets a node counts against it for the next. Nodes
// are refused and scored by the rules of kube-scheduler's default profile, as
// far as this package goes: resources, node selector and affinity, taints,
// cordons, host ports, volumes that are bound, images, topology spread and
// affinity between pods. Instead of a random choice among the best nodes, a hash
// of the pod's uid and the node's name breaks ties.
//
// It never talks to a node, never removes a pod, and keeps nothing that it could
// not compute again from the view: what it remembers only saves work.
package scheduler

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// The facts that only the scheduler writes.
const (
	// Bound is the type of the fact that a pod got a node.
	Bound = "pod.bound"
	// Unschedulable is the type of the fact that no node would take a pod.
	Unschedulable = "pod.unschedulable"
)

// Scheduler is the runner.Decider that binds pods.
type Scheduler struct {
	name  string
	setup []byte // nil for the default policy
	memo  *memo
}

// New returns a scheduler for the pods whose spec.schedulerName is name; empty
// stands for that of pods that ask for none.
func New(name string) *Scheduler {
	p, _ := newPolicy(Policy{}) // The zero value is good.
	return &Scheduler{name: cmp.Or(name, v1.DefaultSchedulerName), memo: newMemo(p)}
}

// NewWith returns a scheduler like New that has a policy.
func NewWith(name string, p Policy) (*Scheduler, error) {
	ready, err := newPolicy(p)
	if err != nil {
		return nil, err
	}
	s := &Scheduler{name: cmp.Or(name, v1.DefaultSchedulerName), memo: newMemo(ready)}
	if !reflect.DeepEqual(p, Policy{}) {
		s.setup = encode(p)
	}
	return s, nil
}

// Setup is the policy, unless it is the default.
func (s *Scheduler) Setup() []byte { return s.setup }

// Actor is the scheduler.
func (s *Scheduler) Actor() events.Actor { return events.Actor{Kind: "scheduler"} }

// queue is the one work item: all pods that wait for a node.
var queue = events.Ref{Resource: "pods"}

// Decide proposes a node for each waiting pod, or says why there is none. Each
// pod is a decision of its own, so that a conflict over one does not disturb the
// others.
func (s *Scheduler) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	var r runner.Result
	waiting := s.waiting(v)
	if len(waiting) == 0 {
		return r
	}
	s.memo.mu.Lock()
	defer s.memo.mu.Unlock()
	b := s.memo.batch(v, waiting)
	for bound := true; bound && len(waiting) > 0; {
		var decisions []events.Decision
		decisions, waiting = b.pass(waiting, now)
		r.Decisions = append(r.Decisions, decisions...)
		// Who has to be near others, or as many as others, may find a place now
		// that others have one.
		bound = len(decisions) > 0 && slices.ContainsFunc(waiting, func(p waitingPod) bool { return b.isRelated(p.pod) })
	}
	// Why there is no node is said as it is after all: what was bound later may
	// have filled nodes up for other reasons, and the next look would find another
	// answer.
	for _, p := range waiting {
		if d, changed := b.refuse(p, item.Because, now); changed {
			r.Decisions = append(r.Decisions, d)
		}
	}
	b.end()
	return r
}

// pass goes through the queue once, and returns the pods that are left.
func (b *batch) pass(waiting []waitingPod, now time.Time) (decisions []events.Decision, left []waitingPod) {
	for _, p := range waiting {
		volumes, trouble := b.volumesOf(p.pod)
		if p.trouble = trouble; trouble != "" {
			left = append(left, p)
			continue
		}
		p.class = b.class(p.pod, volumes)
		h := p.class.pick(hash(p.entry.UID))
		if h == none {
			left = append(left, p)
			continue
		}
		decisions = append(decisions, bind(p, b.hosts[h].node, p.class.explain(h), now))
		b.take(h, p.pod, p.class)
	}
	return decisions, left
}

// waitingPod is a pod that this scheduler is to find a node for.
type waitingPod struct {
	entry *projections.Entry
	pod   *v1.Pod
	// class is set once nodes were looked at for the pod, trouble if none was,
	// for what the pod needs is not there.
	class   *class
	trouble string
}

// waiting returns the queue: pods by descending priority, the older one first.
func (s *Scheduler) waiting(v runner.View) []waitingPod {
	var all []waitingPod
	for e := range v.OnNode("") {
		if p := projections.As[v1.Pod](e); s.isWaiting(p) {
			all = append(all, waitingPod{entry: e, pod: p})
		}
	}
	slices.SortStableFunc(all, func(a, b waitingPod) int {
		return cmp.Or(cmp.Compare(priority(b.pod), priority(a.pod)), cmp.Compare(a.entry.Created, b.entry.Created))
	})
	return all
}

// isWaiting says whether a pod is to be bound now. Pods with scheduling gates
// are left alone.
func (s *Scheduler) isWaiting(p *v1.Pod) bool {
	return p.Spec.NodeName == "" && p.DeletionTimestamp == nil && len(p.Spec.SchedulingGates) == 0 &&
		cmp.Or(p.Spec.SchedulerName, v1.DefaultSchedulerName) == s.name && !isOver(p)
}

// isOver says that a pod will never run again, so it needs no room.
func isOver(p *v1.Pod) bool {
	return p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed
}

func priority(p *v1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}
