package scheduler

import (
	"encoding/json"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// constraints are a pod's topology spread constraints: its own, or else the
// policy's, about the pods that are with it in its services and its controller.
func (b *batch) constraints(p *v1.Pod) []v1.TopologySpreadConstraint {
	own := p.Spec.TopologySpreadConstraints
	if len(own) > 0 || len(b.policy.Spread) == 0 {
		return own
	}
	together := b.together(p)
	if together == nil {
		return nil
	}
	all := slices.Clone(b.policy.Spread)
	for i := range all {
		all[i].LabelSelector = together
	}
	return all
}

// together selects the pods that are in all the services and the controller that
// a pod is in, nil if there are none.
func (b *batch) together(p *v1.Pod) *metav1.LabelSelector {
	all := metav1.LabelSelector{MatchLabels: map[string]string{}}
	for e := range b.view.List("", "services", p.Namespace) {
		selector := projections.As[v1.Service](e).Spec.Selector
		if len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(p.Labels)) {
			for key, value := range selector {
				all.MatchLabels[key] = value
			}
		}
	}
	if owner := metav1.GetControllerOfNoCopy(p); owner != nil {
		if s := b.selectorOf(p.Namespace, owner); s != nil {
			for key, value := range s.MatchLabels {
				all.MatchLabels[key] = value
			}
			all.MatchExpressions = s.MatchExpressions
		}
	}
	if len(all.MatchLabels)+len(all.MatchExpressions) == 0 {
		return nil
	}
	return &all
}

// selectorOf is the selector of a ReplicaSet or a StatefulSet.
func (b *batch) selectorOf(namespace string, owner *metav1.OwnerReference) *metav1.LabelSelector {
	ref := events.Ref{Group: "apps", Namespace: namespace, Name: owner.Name}
	switch owner.Kind {
	case "ReplicaSet":
		ref.Resource = "replicasets"
	case "StatefulSet":
		ref.Resource = "statefulsets"
	default:
		return nil
	}
	e := b.view.Get(ref)
	if e == nil {
		return nil
	}
	var o struct {
		Spec struct{ Selector *metav1.LabelSelector }
	}
	if json.Unmarshal(e.Raw, &o) != nil {
		return nil
	}
	return o.Spec.Selector
}
