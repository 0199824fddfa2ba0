// Package objects says what several controllers must know alike of the objects
// they look at: which kind a reference names, when one lost its controller, what
// a selector means. The deciders call it. It decides nothing.
package objects

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// IsPod says whether a reference names a pod.
func IsPod(r events.Ref) bool { return r.Group == "" && r.Resource == "pods" }

// IsNode says whether a reference names a node.
func IsNode(r events.Ref) bool { return r.Group == "" && r.Resource == "nodes" }

// IsReplicaSet says whether a reference names a ReplicaSet.
func IsReplicaSet(r events.Ref) bool { return r.Group == "apps" && r.Resource == "replicasets" }

// Node refers to a node.
func Node(name string) events.Ref { return events.Ref{Resource: "nodes", Name: name} }

// ReplicaSet refers to a ReplicaSet.
func ReplicaSet(namespace, name string) events.Ref {
	return events.Ref{Group: "apps", Resource: "replicasets", Namespace: namespace, Name: name}
}

// NewlyLoose says whether the change, after which the object has no controller,
// made it an orphan, or an orphan of other labels.
func NewlyLoose(c projections.Change) bool {
	return c.Before == nil || metav1.GetControllerOfNoCopy(c.Before.Meta()) != nil ||
		!maps.Equal(c.Before.Meta().Labels, c.After.Meta().Labels)
}

// Selector reads a selector, which the API has validated.
func Selector(s *metav1.LabelSelector) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}
