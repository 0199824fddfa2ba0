package deployment

import (
	"slices"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// phase is the path of a pod that says whether it has ended.
var phase = [][]byte{[]byte(`"/status"`), []byte(`"/status/phase"`)}

// ended says whether all that ran of a pod has ended for good.
func ended(pod *projections.Entry) bool {
	phase, _ := events.Text(pod.Lookup("status", "phase"))
	return phase == string(core.PodFailed) || phase == string(core.PodSucceeded)
}

// orphan says whether a ReplicaSet is there to be adopted.
func orphan(set *projections.Entry) bool {
	m := set.Meta()
	return metav1.GetControllerOfNoCopy(m) == nil && m.DeletionTimestamp == nil && len(m.Labels) > 0
}

// orphansOf returns the ReplicaSets that a new Deployment may adopt.
func orphansOf(v runner.View, d *projections.Entry) []events.Ref {
	selector := objects.Selector(projections.As[apps.Deployment](d).Spec.Selector)
	var refs []events.Ref
	for e := range v.Uncontrolled("apps", "replicasets", d.Ref.Namespace) {
		if orphan(e) && selector.Matches(labels.Set(e.Meta().Labels)) {
			refs = append(refs, e.Ref)
		}
	}
	return refs
}

// adoptsSoon says whether the Deployment is about to adopt a ReplicaSet.
func adoptsSoon(v runner.View, d *projections.Entry) bool {
	return slices.ContainsFunc(orphansOf(v, d), func(ref events.Ref) bool { return adopterOf(v, v.Get(ref)) == d })
}

// adopterOf finds the Deployment that adopts a ReplicaSet, or nil: the first by
// name of those that select it.
func adopterOf(v runner.View, set *projections.Entry) *projections.Entry {
	if !orphan(set) {
		return nil
	}
	for e := range v.List("apps", "deployments", set.Ref.Namespace) {
		d := projections.As[apps.Deployment](e)
		if d.DeletionTimestamp == nil && objects.Selector(d.Spec.Selector).Matches(labels.Set(set.Meta().Labels)) {
			return e
		}
	}
	return nil
}

// adopt makes the Deployment that selects a ReplicaSet its controller.
func adopt(v runner.View, e *projections.Entry, because uint64) runner.Result {
	d := adopterOf(v, e)
	if d == nil {
		return runner.Result{}
	}
	after := projections.As[apps.ReplicaSet](e).DeepCopy()
	after.OwnerReferences = append(after.OwnerReferences, *metav1.NewControllerRef(projections.As[apps.Deployment](d), controllerKind))
	decision, _ := runner.Update(e, "replicaset.adopted", after, because)
	decision.Expect = append(decision.Expect, events.Expectation{Object: d.Ref, Sequence: d.Sequence})
	return runner.Result{Decisions: []events.Decision{decision}}
}

// release lets go of a ReplicaSet that is no longer selected.
func release(e *projections.Entry, uid string, because uint64) events.Decision {
	after := projections.As[apps.ReplicaSet](e).DeepCopy()
	after.OwnerReferences = slices.DeleteFunc(after.OwnerReferences, func(o metav1.OwnerReference) bool { return string(o.UID) == uid })
	if len(after.OwnerReferences) == 0 {
		after.OwnerReferences = nil
	}
	decision, _ := runner.Update(e, "replicaset.released", after, because)
	return decision
}
