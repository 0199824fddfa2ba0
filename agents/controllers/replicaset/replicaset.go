// Package replicaset keeps as many pods as a ReplicaSet asks for. The runner
// drives it. It creates and deletes pods by commands, adopts and releases them,
// and reports the ReplicaSet's status; it never touches a ReplicaSet's spec, nor
// a pod's beyond its owner references.
//
// An item is a ReplicaSet, or a pod without a controller that some ReplicaSet
// may adopt: so nobody searches a namespace for orphans at each decision.
package replicaset

import (
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubernetes/pkg/controller"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// burst is the most pods that one decision creates or deletes.
const burst = 500

const observed = "replicaset.observed"

// New returns the decider.
func New() runner.Decider { return decider{} }

type decider struct{}

func (decider) Actor() events.Actor {
	return events.Actor{Kind: "controller", Name: "replicaset"}
}

// Concerns names the ReplicaSet that changed or whose pod did, and orphans that
// a ReplicaSet may adopt.
func (decider) Concerns(v runner.View, c projections.Change) []events.Ref {
	ref := c.Entry().Ref
	switch {
	case objects.IsReplicaSet(ref):
		if c.Event.Type == observed {
			return nil // its own words
		}
		if c.Before == nil && c.Event.Type != "" {
			return append(orphansOf(v, c.After), ref)
		}
		return []events.Ref{ref}
	case objects.IsPod(ref):
		return concernedByPod(v, c)
	}
	return nil
}

func concernedByPod(v runner.View, c projections.Change) []events.Ref {
	var refs []events.Ref
	for _, e := range []*projections.Entry{c.Before, c.After} {
		if e == nil {
			continue
		}
		owner := metav1.GetControllerOfNoCopy(e.Meta())
		switch {
		case owner != nil && owner.Kind == "ReplicaSet":
			ref := objects.ReplicaSet(e.Ref.Namespace, owner.Name)
			if len(refs) == 0 || refs[0] != ref {
				refs = append(refs, ref)
			}
		case owner == nil && e == c.After && objects.NewlyLoose(c) && adopterOf(v, e) != nil:
			refs = append(refs, e.Ref)
		}
	}
	return refs
}

// orphansOf returns the pods that a new ReplicaSet may adopt.
func orphansOf(v runner.View, set *projections.Entry) []events.Ref {
	selector := objects.Selector(projections.As[apps.ReplicaSet](set).Spec.Selector)
	var refs []events.Ref
	for e := range v.Uncontrolled("", "pods", set.Ref.Namespace) {
		m := e.Meta()
		if m.DeletionTimestamp == nil && selector.Matches(labels.Set(m.Labels)) {
			refs = append(refs, e.Ref)
		}
	}
	return refs
}

// Decide keeps one ReplicaSet, or finds an orphan its place.
func (decider) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	e := v.Get(item.Ref)
	switch {
	case e == nil:
		return runner.Result{}
	case objects.IsPod(item.Ref):
		return adopt(v, e, item.Because)
	}
	s := look(v, e, item)
	var r runner.Result
	if s.DeletionTimestamp == nil {
		r.Commands = s.scale(now)
		r.Decisions = s.release()
	}
	status, wake := s.status(now)
	if len(r.Commands) > 0 && item.Failure == "" {
		return r // the pods to come or go will tell
	}
	if d, ok := runner.UpdatePart(e, observed, "/status", s.Status, status, item.Because); ok {
		r.Decisions = append(r.Decisions, d)
	}
	r.Wake = wake
	return r
}

// set is a ReplicaSet with its pods.
type set struct {
	*apps.ReplicaSet
	view  runner.View
	entry *projections.Entry
	item  runner.Item
	// active pods run or will, terminating ones are to be deleted, stray ones
	// are no longer selected.
	active, terminating []*core.Pod
	stray               []*projections.Entry
}

func look(v runner.View, e *projections.Entry, item runner.Item) *set {
	s := &set{ReplicaSet: projections.As[apps.ReplicaSet](e), view: v, entry: e, item: item}
	selector := objects.Selector(s.ReplicaSet.Spec.Selector)
	for p := range v.Owned(e.UID) {
		if !objects.IsPod(p.Ref) || !metav1.IsControlledBy(p.Meta(), s) {
			continue
		}
		pod := projections.As[core.Pod](p)
		switch selected := selector.Matches(labels.Set(pod.Labels)); {
		case controller.IsPodActive(pod) && selected:
			s.active = append(s.active, pod)
		case controller.IsPodActive(pod):
			s.stray = append(s.stray, p)
		case controller.IsPodTerminating(pod) && selected:
			s.terminating = append(s.terminating, pod)
		}
	}
	return s
}
