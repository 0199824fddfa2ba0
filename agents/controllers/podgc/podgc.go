// Package podgc removes pods that nobody else will: those whose node is gone,
// those that were deleted before they had a node or whose node is said to be out
// of service, and the oldest of those that have ended when there are too many.
// The runner drives it. A pod on a node that is there it leaves to the node.
//
// An item is a pod, or all the pods that have ended.
package podgc

import (
	"slices"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Options are what the decider goes by.
type Options struct {
	// Ended is how many pods that have ended are kept; 12,500 by default.
	Ended int
}

const defaultEnded = 12500

// burst is the most ended pods that one decision deletes.
const burst = 500

// New returns the decider.
func New(o Options) runner.Decider {
	if o.Ended == 0 {
		o.Ended = defaultEnded
	}
	return decider{o, &memo{}}
}

type decider struct {
	Options
	memo *memo
}

func (decider) Actor() events.Actor { return events.Actor{Kind: "controller", Name: "podgc"} }

// all is the item of the pods that have ended.
var all = events.Ref{Resource: "pods"}

// Concerns names the pods of a node that is gone or out of service, and pods
// that may be beyond the reach of a node or are one more that has ended.
func (decider) Concerns(v runner.View, c projections.Change) []events.Ref {
	switch ref := c.Entry().Ref; {
	case objects.IsNode(ref):
		if c.After != nil && !outOfService(projections.As[core.Node](c.After)) {
			return nil
		}
		var refs []events.Ref
		for e := range v.OnNode(ref.Name) {
			refs = append(refs, e.Ref)
		}
		return refs
	case !objects.IsPod(ref) || c.After == nil:
		return nil
	}
	var refs []events.Ref
	switch c.Event.Fact() {
	case "", "succeeded", "failed", "status-updated", "updated":
		if countsAsEnded(c.After) {
			refs = append(refs, all)
		}
	case "created", "bound", "terminating":
	default:
		return nil
	}
	if isStranded(v, c.After) {
		refs = append(refs, c.After.Ref)
	}
	return refs
}

// isStranded says whether no node will do anything about a pod, or be asked to: most pods
// are as they should be. What changes that later is about their
// node, or about them.
func isStranded(v runner.View, e *projections.Entry) bool {
	if e.Node() == "" {
		return e.Meta().DeletionTimestamp != nil
	}
	node := v.Get(objects.Node(e.Node()))
	return node == nil || e.Meta().DeletionTimestamp != nil && outOfService(projections.As[core.Node](node))
}

// Decide removes one pod, or the oldest of those that have ended.
func (d decider) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	if item.Ref == all {
		return d.trim(v, item.Because)
	}
	e := v.Get(item.Ref)
	if e == nil {
		return runner.Result{}
	}
	if !isStranded(v, e) {
		return runner.Result{}
	}
	if e.Node() == "" {
		return runner.Result{Commands: []runner.Command{force(e, item.Because)}}
	}
	return abandon(e, projections.As[core.Pod](e), item.Because, now, v.Get(objects.Node(e.Node())) == nil)
}

// abandon gives up a pod that no node will speak for again: first it is said to
// have failed, then it is deleted without waiting.
func abandon(e *projections.Entry, pod *core.Pod, because uint64, now time.Time, nodeGone bool) runner.Result {
	if hasEnded(pod) {
		return runner.Result{Commands: []runner.Command{force(e, because)}}
	}
	after := pod.Status.DeepCopy()
	after.Phase = core.PodFailed
	if nodeGone {
		after.Conditions = slices.DeleteFunc(after.Conditions, func(c core.PodCondition) bool { return c.Type == core.DisruptionTarget })
		after.Conditions = append(after.Conditions, core.PodCondition{
			Type: core.DisruptionTarget, Status: core.ConditionTrue, LastTransitionTime: metav1.NewTime(now),
			ObservedGeneration: pod.Generation,
			Reason:             "DeletionByPodGC", Message: "PodGC: node no longer exists",
		})
	}
	d, _ := runner.UpdatePart(e, "pod.failed", "/status", pod.Status, *after, because)
	return runner.Result{Decisions: []events.Decision{d}}
}

func force(e *projections.Entry, because uint64) runner.Command {
	return runner.Command{Verb: runner.Delete, Object: e.Ref, UID: e.UID, Because: because, GracePeriod: new(int64)}
}

func hasEnded(pod *core.Pod) bool {
	return pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed
}

// outOfService says whether people declare that nothing runs on the node any
// more, and the node does not object.
func outOfService(node *core.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == core.NodeReady && c.Status == core.ConditionTrue {
			return false
		}
	}
	return slices.ContainsFunc(node.Spec.Taints, func(t core.Taint) bool { return t.Key == core.TaintNodeOutOfService })
}
