package scheduler

import (
	"bytes"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Concerns names the queue if the change brings a pod that waits, or if pods
// wait and the change may have made room for them.
func (s *Scheduler) Concerns(v runner.View, c projections.Change) []events.Ref {
	concerned := false
	switch ref := c.Entry().Ref; (events.Ref{Group: ref.Group, Resource: ref.Resource}) {
	case events.Ref{Resource: "nodes"}:
		concerned = nodeChanged(c) && s.anyWaits(v)
	case events.Ref{Resource: "persistentvolumeclaims"}, events.Ref{Resource: "persistentvolumes"}, events.Ref{Group: "storage.k8s.io", Resource: "storageclasses"}:
		concerned = s.anyWaits(v)
	case events.Ref{Resource: "pods"}:
		concerned = (c.Mentions(telling) || countsByStatus(c)) && (s.asksForNode(c) || (freesRoom(c) && s.anyWaits(v)))
	}
	if !concerned {
		return nil
	}
	return []events.Ref{queue}
}

// telling are the paths of a pod that may be about room or queue: of a status its phase, if
// it tells of no resources.
var telling = [][]byte{[]byte(`"/metadata/labels`), []byte(`"/spec`), []byte(`"/status"`), []byte(`"/status/phase"`)}

// countsByStatus says whether a node tells what a pod takes up, or told so before the change:
// then much in a status may make room, such as the end of a resize.
func countsByStatus(c projections.Change) bool {
	tells := func(e *projections.Entry) bool { return bytes.Contains(e.Lookup("status"), []byte(`esources":`)) }
	return tells(c.Before) || tells(c.After)
}

func (s *Scheduler) anyWaits(v runner.View) bool {
	for e := range v.OnNode("") {
		if s.isWaiting(projections.As[v1.Pod](e)) {
			return true
		}
	}
	return false
}

// asksForNode says whether a pod waits that did not before, or that asks for
// something else. A status is nothing that it asks for.
func (s *Scheduler) asksForNode(c projections.Change) bool {
	if c.After == nil || (c.Event != nil && c.Event.Type == Unschedulable) {
		return false
	}
	after := projections.As[v1.Pod](c.After)
	if !s.isWaiting(after) {
		return false
	}
	if c.Before == nil {
		return true
	}
	before := projections.As[v1.Pod](c.Before)
	return !s.isWaiting(before) || !equality.Semantic.DeepEqual(before.Spec, after.Spec)
}

// freesRoom says whether a pod that counted against a node does so no longer, or
// for less, or looks otherwise to its neighbours.
func freesRoom(c projections.Change) bool {
	if c.Before == nil {
		return false
	}
	before := projections.As[v1.Pod](c.Before)
	if before.Spec.NodeName == "" || isOver(before) {
		return false
	}
	if c.After == nil {
		return true
	}
	after := projections.As[v1.Pod](c.After)
	return isOver(after) || !maps.Equal(before.Labels, after.Labels) ||
		!asksAlike(before, after) && requestsOf(before).differ(requestsOf(after))
}

// nodeChanged says whether a node is new or takes other pods than before.
// Heartbeats and conditions are not among what the scheduler looks at: it is the
// taints that node lifecycle derives from them.
func nodeChanged(c projections.Change) bool {
	if c.Before == nil || c.After == nil {
		// Fewer nodes change what an unschedulable pod is told.
		return true
	}
	if bytes.Equal(c.Before.Raw, c.After.Raw) {
		return false
	}
	before, after := projections.As[v1.Node](c.Before), projections.As[v1.Node](c.After)
	return before.Spec.Unschedulable != after.Spec.Unschedulable ||
		!maps.Equal(before.Labels, after.Labels) ||
		!slices.EqualFunc(before.Spec.Taints, after.Spec.Taints, func(a, b v1.Taint) bool { return a.MatchTaint(&b) && a.Value == b.Value }) ||
		!equality.Semantic.DeepEqual(before.Status.Allocatable, after.Status.Allocatable)
}
