package projections

import (
	"iter"

	"github.com/reprise-run/reprise/events"
)

// Reader is read-only access to the objects of one moment: what deciders are
// given. It does not change while they look.
type Reader interface {
	// Sequence is that of the last event folded into it.
	Sequence() uint64
	// Get returns the object, or nil.
	Get(ref events.Ref) *Entry
	// List yields the objects of a resource in the order of events.Ref.Compare;
	// namespace "" yields those of all namespaces.
	List(group, resource, namespace string) iter.Seq[*Entry]
	// Resources yields each group and resource that has an object, in order, as
	// a Ref without namespace and name.
	Resources() iter.Seq[events.Ref]
	// Owned yields the objects that name uid among their ownerReferences, in
	// the order of events.Ref.Compare.
	Owned(uid string) iter.Seq[*Entry]
	// Uncontrolled yields the objects of a resource in one namespace that have no
	// controller among their owners, in the order of events.Ref.Compare.
	Uncontrolled(group, resource, namespace string) iter.Seq[*Entry]
	// OnNode yields the pods whose spec.nodeName is node ("" yields those that
	// are bound to none), in the order of events.Ref.Compare.
	OnNode(node string) iter.Seq[*Entry]
}

// Any says whether r lists any object of a resource in a namespace, or with namespace ""
// in all of them.
func Any(r Reader, group, resource, namespace string) bool {
	if s, is := r.(*snapshot); is {
		return s.index.any(group, resource, namespace)
	}
	for range r.List(group, resource, namespace) {
		return true
	}
	return false
}
