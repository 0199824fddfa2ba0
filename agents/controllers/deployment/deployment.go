// Package deployment rolls out what a Deployment asks for: it makes a ReplicaSet
// for each version of the pod template and moves the replicas from the old ones
// to the new one, as fast as the strategy allows. The runner drives it.
//
// It creates and deletes ReplicaSets by commands. All else that it decides about
// a Deployment at one time (the sizes and annotations of its ReplicaSets, its
// own status) is one decision, appended whole, on the condition that neither the
// Deployment nor those ReplicaSets have changed. It never touches a pod.
//
// An item is a Deployment, or a ReplicaSet without a controller that some
// Deployment may adopt.
package deployment

import (
	"time"

	apps "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

const observed = "deployment.observed"

// New returns the decider.
func New() runner.Decider { return decider{} }

type decider struct{}

func (decider) Actor() events.Actor {
	return events.Actor{Kind: "controller", Name: "deployment"}
}

// Concerns names the Deployment that changed or whose ReplicaSet did, and
// orphans that a Deployment may adopt.
func (decider) Concerns(v runner.View, c projections.Change) []events.Ref {
	ref := c.Entry().Ref
	switch {
	case isDeployment(ref):
		if c.Event.Type == observed {
			return nil // its own words, which change nothing
		}
		if c.Before == nil && c.Event.Type != "" {
			return append(orphansOf(v, c.After), ref)
		}
		return []events.Ref{ref}
	case objects.IsReplicaSet(ref):
		return concernedByReplicaSet(v, c)
	case objects.IsPod(ref):
		return concernedByPod(v, c)
	}
	return nil
}

func concernedByReplicaSet(v runner.View, c projections.Change) []events.Ref {
	var refs []events.Ref
	for _, e := range []*projections.Entry{c.Before, c.After} {
		if e == nil {
			continue
		}
		owner := metav1.GetControllerOfNoCopy(e.Meta())
		switch {
		case owner != nil && owner.Kind == "Deployment":
			ref := deployment(e.Ref.Namespace, owner.Name)
			if len(refs) == 0 || refs[0] != ref {
				refs = append(refs, ref)
			}
		case owner == nil && e == c.After && objects.NewlyLoose(c) && adopterOf(v, e) != nil:
			refs = append(refs, e.Ref)
		}
	}
	return refs
}

// concernedByPod names the Deployment that waits for a pod's end before it makes
// new ones.
func concernedByPod(v runner.View, c projections.Change) []events.Ref {
	if c.After != nil && !(c.Mentions(phase) && ended(c.After)) {
		return nil
	}
	pod := c.Entry()
	owner := metav1.GetControllerOfNoCopy(pod.Meta())
	if owner == nil || owner.Kind != "ReplicaSet" {
		return nil
	}
	set := v.Get(objects.ReplicaSet(pod.Ref.Namespace, owner.Name))
	if set == nil {
		return nil
	}
	if owner = metav1.GetControllerOfNoCopy(set.Meta()); owner == nil || owner.Kind != "Deployment" {
		return nil
	}
	ref := deployment(set.Ref.Namespace, owner.Name)
	e := v.Get(ref)
	if e == nil || projections.As[apps.Deployment](e).Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
		return nil
	}
	return []events.Ref{ref}
}

// Decide moves one Deployment a step toward its spec, or finds an orphan its
// place.
func (decider) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	e := v.Get(item.Ref)
	switch {
	case e == nil:
		return runner.Result{}
	case objects.IsReplicaSet(item.Ref):
		return adopt(v, e, item.Because)
	}
	if d := projections.As[apps.Deployment](e); d.Status.ObservedGeneration == 0 && adoptsSoon(v, e) {
		return runner.Result{} // an orphan may be the very ReplicaSet it needs
	}
	return look(v, e, item, now).decide()
}

func isDeployment(r events.Ref) bool { return r.Group == "apps" && r.Resource == "deployments" }

func deployment(namespace, name string) events.Ref {
	return events.Ref{Group: "apps", Resource: "deployments", Namespace: namespace, Name: name}
}
