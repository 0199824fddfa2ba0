package garbage

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// disown is the fact that an object has fewer owners: those at the places given,
// which are in order, are off its list.
func disown(e *projections.Entry, places []int, because uint64) events.Decision {
	const list = "/metadata/ownerReferences"
	if len(places) == len(e.Meta().OwnerReferences) {
		return runner.Patch(e, nounOf(e)+".orphaned", because, runner.Unset(list))
	}
	var ops []events.Op
	for _, i := range slices.Backward(places) {
		ops = append(ops, runner.Unset(list+"/"+strconv.Itoa(i)))
	}
	return runner.Patch(e, nounOf(e)+".orphaned", because, ops...)
}

// indexes are the places of an owner in an object's list.
func indexes(e *projections.Entry, owner string) []int {
	var places []int
	for i, o := range e.Meta().OwnerReferences {
		if string(o.UID) == owner {
			places = append(places, i)
		}
	}
	return places
}

// unblocking are the operations after which no owner waits for the object.
func unblocking(refs []metav1.OwnerReference) []events.Op {
	var ops []events.Op
	for i, o := range refs {
		if o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion {
			ops = append(ops, runner.Set("/metadata/ownerReferences/"+strconv.Itoa(i)+"/blockOwnerDeletion", false))
		}
	}
	return ops
}

// release is the fact that a finalizer of the garbage collector is done. If it
// was the last thing that kept the object, the object is gone: as the API does
// it, there is no version without finalizers in between.
func release(e *projections.Entry, finalizer string, because uint64) events.Decision {
	left := slices.DeleteFunc(slices.Clone(e.Meta().Finalizers), func(f string) bool { return f == finalizer })
	switch {
	case len(left) > 0:
		return runner.Patch(e, nounOf(e)+".released", because, runner.Set("/metadata/finalizers", left))
	case isKept(e):
		return runner.Patch(e, nounOf(e)+".released", because, runner.Unset("/metadata/finalizers"))
	}
	return runner.Removal(e, nounOf(e)+".collected", because)
}

// isKept says whether something other than metadata.finalizers still holds an
// object that is being deleted: a grace period that its node sees to the end of,
// or a namespace's content.
func isKept(e *projections.Entry) bool {
	if grace := e.Meta().DeletionGracePeriodSeconds; grace != nil && *grace > 0 {
		return true
	}
	if e.Ref.Group != "" || e.Ref.Resource != "namespaces" {
		return false
	}
	var ns struct {
		Spec struct {
			Finalizers []string `json:"finalizers"`
		} `json:"spec"`
	}
	mustDecode(e, &ns)
	return len(ns.Spec.Finalizers) > 0
}

// nounOf is the kind in lower case, with which an object's facts begin.
func nounOf(e *projections.Entry) string {
	return strings.ToLower(kindOf(e))
}

func kindOf(e *projections.Entry) string {
	var o metav1.TypeMeta
	mustDecode(e, &o)
	return o.Kind
}

func mustDecode(e *projections.Entry, into any) {
	if err := json.Unmarshal(e.Raw, into); err != nil {
		panic(fmt.Sprintf("%s at sequence %d is not a Kubernetes object: %v", e.Ref, e.Sequence, err))
	}
}
