// Package garbage deletes what its owners leave behind. The server runs it.
//
// An object names its owners in metadata.ownerReferences, by uid. When the last
// of them is gone, so is it (background deletion); while an owner is being
// deleted in the foreground, its dependents go first; and one that is deleted
// with its dependents orphaned is first taken off their lists. What counts is
// the view, which holds every object there is, custom ones included: an owner
// is gone if no object of its kind, name and uid is there. Of kinds that are not
// in the log at all (those of aggregated servers) nothing is known, and their
// dependents are left alone.
package garbage

import (
	"bytes"
	"iter"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Controller is the runner.Decider.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Actor is controller:garbage.
func (Controller) Actor() events.Actor { return events.Actor{Kind: "controller", Name: "garbage"} }

// Concerns names the object if its owners, finalizers or deletion changed so that there
// is something to do about it, and those whom that concerns in turn: the dependents of
// what goes, and the owners that may be waiting for it.
func (Controller) Concerns(v runner.View, c projections.Change) []events.Ref {
	ref := c.Entry().Ref
	if ref.Resource == "events" || !touchesMetadata(c) {
		return nil
	}
	var items []events.Ref
	if c.After == nil {
		for e := range dependents(v, c.Before.UID) {
			items = append(items, e.Ref)
		}
		return append(items, waitingOwners(v, c.Before)...)
	}
	if asksForMore(v, c.After) {
		items = append(items, ref)
	}
	if isWaiting(c.After) && (c.Before == nil || !isWaiting(c.Before)) {
		for e := range dependents(v, c.After.UID) {
			items = append(items, e.Ref)
		}
	}
	if c.Before != nil && len(c.Before.Meta().OwnerReferences) > 0 {
		items = append(items, waitingOwners(v, c.Before)...)
	}
	return items
}

// asksForMore says whether there may be something to do about an object: most have an
// owner that stays, or end without the garbage collector. What changes that later is a
// change of their owners, or of themselves.
func asksForMore(v runner.View, e *projections.Entry) bool {
	m := e.Meta()
	if m.DeletionTimestamp != nil {
		return slices.Contains(m.Finalizers, metav1.FinalizerOrphanDependents) || slices.Contains(m.Finalizers, metav1.FinalizerDeleteDependents)
	}
	for i := range m.OwnerReferences {
		if stateOf(v, e, &m.OwnerReferences[i]) != ownerSolid {
			return true
		}
	}
	return false
}

// touchesMetadata says whether the change may be about anything in the metadata;
// most changes are a status, and need not be decoded.
func touchesMetadata(c projections.Change) bool {
	switch {
	case c.Before == nil || c.After == nil:
		return true
	case events.Volatile(c.After.Ref): // is put whole, not patched
		return slices.ContainsFunc(judgedBy[:], func(member string) bool {
			return !bytes.Equal(c.Before.Lookup("metadata", member), c.After.Lookup("metadata", member))
		})
	}
	return bytes.Contains(c.Event.Data, []byte(`"/metadata`))
}

// judgedBy are the members of an object's metadata that say what is to become of it.
var judgedBy = [...]string{"ownerReferences", "finalizers", "deletionTimestamp"}

// Decide moves one object a step toward its end, if its owners or its own
// deletion ask for that.
func (Controller) Decide(v runner.View, item runner.Item, _ time.Time) runner.Result {
	e := get(v, item.Ref)
	if e == nil {
		return runner.Result{}
	}
	m := e.Meta()
	switch {
	case m.DeletionTimestamp == nil:
		return collect(v, e, item.Because)
	case slices.Contains(m.Finalizers, metav1.FinalizerOrphanDependents):
		return orphan(v, e, item.Because)
	case isWaiting(e) && !anyBlocks(v, e):
		return decided(release(e, metav1.FinalizerDeleteDependents, item.Because))
	}
	return runner.Result{}
}

// collect deletes an object that has no owner left, or takes off its list the
// owners that are gone while others remain.
func collect(v runner.View, e *projections.Entry, because uint64) runner.Result {
	refs := e.Meta().OwnerReferences
	var gone []int
	var solid, waiting int
	for i := range refs {
		switch stateOf(v, e, &refs[i]) {
		case ownerSolid:
			solid++
		case ownerWaiting:
			waiting++
			gone = append(gone, i)
		case ownerAbsent:
			gone = append(gone, i)
		}
	}
	switch {
	case len(gone) == 0:
		return runner.Result{}
	case solid > 0:
		return decided(disown(e, gone, because))
	case waiting == 0 || !hasDependents(v, e.UID):
		return deletion(e, inherited(e), because)
	}
	// Its owner waits for it, and it has dependents itself: they go first. If it
	// waits for its owner in turn, nobody may wait any more.
	if ops := unblocking(refs); len(ops) > 0 && isCircular(v, e) {
		return decided(runner.Patch(e, nounOf(e)+".unblocked", because, ops...))
	}
	return deletion(e, metav1.DeletePropagationForeground, because)
}

// orphan takes an object that is being deleted off the lists of its dependents,
// and then lets it go.
func orphan(v runner.View, e *projections.Entry, because uint64) runner.Result {
	var r runner.Result
	for d := range dependents(v, e.UID) {
		r.Decisions = append(r.Decisions, decided(disown(d, indexes(d, e.UID), because)).Decisions...)
	}
	if len(r.Decisions) > 0 {
		return r
	}
	return decided(release(e, metav1.FinalizerOrphanDependents, because))
}

// inherited is how to delete an object, as a finalizer on it says.
func inherited(e *projections.Entry) metav1.DeletionPropagation {
	switch f := e.Meta().Finalizers; {
	case slices.Contains(f, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(f, metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// deletion is a command that fails if the object has changed meanwhile: it may
// have been adopted.
func deletion(e *projections.Entry, p metav1.DeletionPropagation, because uint64) runner.Result {
	return runner.Result{Commands: []runner.Command{{
		Verb: runner.Delete, Object: e.Ref, Because: because, UID: e.UID, Sequence: e.Sequence, Propagation: string(p),
	}}}
}

// decided is the result of one decision. Volatile objects are never patched, so
// what could only be said of one by a patch is not said: it keeps its lists until
// it ages away.
func decided(d events.Decision) runner.Result {
	if c := d.Changes[0]; events.Volatile(c.Object) && !events.IsRemoval(c.Data) {
		return runner.Result{}
	}
	return runner.Result{Decisions: []events.Decision{d}}
}

// isWaiting says whether an object is being deleted once its dependents are.
func isWaiting(e *projections.Entry) bool {
	m := e.Meta()
	return m.DeletionTimestamp != nil && slices.Contains(m.Finalizers, metav1.FinalizerDeleteDependents)
}

// anyBlocks says whether a dependent holds up its owner's deletion. What is volatile does
// not, for it could not be taken off another owner's list, nor out of a circle; it is
// deleted after its owner.
func anyBlocks(v runner.View, owner *projections.Entry) bool {
	for e := range v.Owned(owner.UID) {
		for _, o := range e.Meta().OwnerReferences {
			if string(o.UID) == owner.UID && o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion {
				return true
			}
		}
	}
	return false
}

// isCircular says whether a dependent of the object is already being deleted in
// the foreground.
func isCircular(v runner.View, e *projections.Entry) bool {
	for d := range dependents(v, e.UID) {
		if isWaiting(d) {
			return true
		}
	}
	return false
}

func hasDependents(v runner.View, uid string) bool {
	for range dependents(v, uid) {
		return true
	}
	return false
}

// dependents yields what names uid among its owners.
func dependents(v runner.View, uid string) iter.Seq[*projections.Entry] {
	return func(yield func(*projections.Entry) bool) {
		for e := range v.Owned(uid) {
			if !yield(e) {
				return
			}
		}
		if v.Volatile == nil {
			return
		}
		for e := range v.Volatile.Owned(uid) {
			if e.Ref.Resource != "events" && !yield(e) {
				return
			}
		}
	}
}

func get(v runner.View, ref events.Ref) *projections.Entry {
	switch {
	case !events.Volatile(ref):
		return v.Get(ref)
	case v.Volatile != nil:
		return v.Volatile.Get(ref)
	}
	return nil
}
