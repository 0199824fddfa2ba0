package replicaset

import (
	"slices"

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

// adopterOf finds the ReplicaSet that adopts a pod, or nil: the first by name of
// those that select it.
func adopterOf(v runner.View, pod *projections.Entry) *projections.Entry {
	m := pod.Meta()
	if metav1.GetControllerOfNoCopy(m) != nil || m.DeletionTimestamp != nil || len(m.Labels) == 0 {
		return nil
	}
	for e := range v.List("apps", "replicasets", pod.Ref.Namespace) {
		rs := projections.As[apps.ReplicaSet](e)
		if rs.DeletionTimestamp == nil && objects.Selector(rs.Spec.Selector).Matches(labels.Set(m.Labels)) {
			return e
		}
	}
	return nil
}

// adopt makes the ReplicaSet that selects a pod its controller.
func adopt(v runner.View, e *projections.Entry, because uint64) runner.Result {
	pod := projections.As[core.Pod](e)
	set := adopterOf(v, e)
	if set == nil || !controller.IsPodActive(pod) {
		return runner.Result{}
	}
	after := pod.DeepCopy()
	rs := projections.As[apps.ReplicaSet](set)
	after.OwnerReferences = append(after.OwnerReferences, *metav1.NewControllerRef(rs, apps.SchemeGroupVersion.WithKind("ReplicaSet")))
	d, _ := runner.Update(e, "pod.adopted", after, because)
	d.Expect = append(d.Expect, events.Expectation{Object: set.Ref, Sequence: set.Sequence})
	return runner.Result{Decisions: []events.Decision{d}}
}

// release lets go of the pods that are no longer selected.
func (s *set) release() []events.Decision {
	var out []events.Decision
	for _, e := range s.stray {
		after := projections.As[core.Pod](e).DeepCopy()
		after.OwnerReferences = slices.DeleteFunc(after.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == s.UID })
		if len(after.OwnerReferences) == 0 {
			after.OwnerReferences = nil
		}
		d, _ := runner.Update(e, "pod.released", after, s.item.Because)
		out = append(out, d)
	}
	return out
}
