package nodelifecycle

import (
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// tend keeps a node's conditions, then its taints in line with these, then the
// readiness of its pods.
func (d decider) tend(v runner.View, e *projections.Entry, because uint64, now time.Time) runner.Result {
	node := projections.As[core.Node](e)
	var r runner.Result
	if v.Volatile != nil {
		silence := d.heard(v, node).Add(d.Grace)
		if now.Before(silence) {
			r.Wake = silence
		} else if after := lost(node, now); after != nil {
			// The cause is a silence, which is in no log.
			if x, ok := runner.UpdatePart(e, "node.lost", "/status", node.Status, *after, 0); ok {
				r.Decisions = append(r.Decisions, x)
				return r // the taints follow from that
			}
		}
	}
	if x, ok := taint(e, node, because, now); ok {
		r.Decisions = append(r.Decisions, x)
	}
	r.Decisions = append(r.Decisions, unready(v, node, because, now)...)
	return r
}

// heard is when the node last gave a sign of life.
func (d decider) heard(v runner.View, node *core.Node) time.Time {
	last := node.CreationTimestamp.Time
	if _, c := condition(&node.Status, core.NodeReady); c != nil && c.Status != core.ConditionUnknown && c.LastHeartbeatTime.After(last) {
		last = c.LastHeartbeatTime.Time
	}
	lease := v.Volatile.Get(events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: core.NamespaceNodeLease, Name: node.Name})
	if lease != nil {
		if renewed := projections.As[coordination.Lease](lease).Spec.RenewTime; renewed != nil && renewed.After(last) {
			last = renewed.Time
		}
	}
	if d.Since.After(last) {
		last = d.Since
	}
	return last
}

// vital are the conditions that only the node itself can tell.
var vital = []core.NodeConditionType{core.NodeReady, core.NodeMemoryPressure, core.NodeDiskPressure, core.NodePIDPressure}

// lost is the status of a node that is silent, or nil if it says so already. The
// words are those that tools know from upstream.
func lost(node *core.Node, now time.Time) *core.NodeStatus {
	after := node.Status.DeepCopy()
	changed := false
	for _, typ := range vital {
		_, c := condition(after, typ)
		switch {
		case c == nil:
			after.Conditions = append(after.Conditions, core.NodeCondition{
				Type: typ, Status: core.ConditionUnknown, LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: metav1.NewTime(now),
				Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
			})
			changed = true
		case c.Status != core.ConditionUnknown:
			c.Status, c.LastTransitionTime = core.ConditionUnknown, metav1.NewTime(now)
			c.Reason, c.Message = "NodeStatusUnknown", "Kubelet stopped posting node status."
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return after
}

func condition(s *core.NodeStatus, typ core.NodeConditionType) (int, *core.NodeCondition) {
	for i := range s.Conditions {
		if s.Conditions[i].Type == typ {
			return i, &s.Conditions[i]
		}
	}
	return -1, nil
}

// unready says of the pods on a node that is not ready that they are not either,
// so that nobody sends them requests.
func unready(v runner.View, node *core.Node, because uint64, now time.Time) []events.Decision {
	if _, c := condition(&node.Status, core.NodeReady); c == nil || c.Status == core.ConditionTrue {
		return nil
	}
	var out []events.Decision
	for e := range v.OnNode(node.Name) {
		pod := projections.As[core.Pod](e)
		after := pod.Status.DeepCopy()
		for i := range after.Conditions {
			c := &after.Conditions[i]
			if c.Type == core.PodReady && c.Status == core.ConditionTrue {
				c.Status, c.LastTransitionTime = core.ConditionFalse, metav1.NewTime(now)
				c.Reason, c.Message = "NodeNotReady", "Node "+node.Name+" is not ready"
			}
		}
		if d, ok := runner.UpdatePart(e, "pod.unready", "/status", pod.Status, *after, because); ok {
			out = append(out, d)
		}
	}
	return out
}
