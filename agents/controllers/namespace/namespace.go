// Package namespace empties namespaces that are being deleted, and then lets
// them go: pods first, then all else, custom objects included, since whatever is
// in a namespace is in the view. The server runs it. It removes no finalizer of
// others: what has one stays until they are done, and the namespace's conditions
// say what it waits for.
package namespace

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// The facts of the end of a namespace.
const (
	draining  = "namespace.draining"
	finalized = "namespace.finalized"
	emptied   = "namespace.emptied"
)

// maxCommands bounds how many objects one result deletes; the rest follows when
// these are gone.
const maxCommands = 1000

// Controller is the runner.Decider.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Actor is controller:namespace.
func (Controller) Actor() events.Actor { return events.Actor{Kind: "controller", Name: "namespace"} }

// Concerns names the namespace if it is on its way out and something in it came,
// went, or began to go.
func (Controller) Concerns(v runner.View, c projections.Change) []events.Ref {
	ref := c.Entry().Ref
	if ref.Group == "" && ref.Resource == "namespaces" {
		return []events.Ref{ref}
	}
	if ref.Namespace == "" {
		return nil
	}
	ns := events.Ref{Resource: "namespaces", Name: ref.Namespace}
	if e := v.Get(ns); e == nil || e.Meta().DeletionTimestamp == nil {
		return nil
	}
	if c.Before != nil && c.After != nil && slices.Equal(c.Before.Meta().Finalizers, c.After.Meta().Finalizers) &&
		(c.Before.Meta().DeletionTimestamp == nil) == (c.After.Meta().DeletionTimestamp == nil) {
		return nil
	}
	return []events.Ref{ns}
}

// Decide deletes what is in the namespace, reports what is left, and ends the
// namespace when that is nothing.
func (Controller) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	e := v.Get(item.Ref)
	if e == nil || e.Meta().DeletionTimestamp == nil {
		return runner.Result{}
	}
	ns := projections.As[v1.Namespace](e)
	if !slices.Contains(ns.Spec.Finalizers, v1.FinalizerKubernetes) {
		return runner.Result{} // it is somebody else's turn
	}
	left := contents(v, ns.Name)
	if len(left.objects) == 0 {
		return runner.Result{Decisions: []events.Decision{end(e, ns, item.Because)}}
	}
	r := runner.Result{Commands: left.deletions(e.Sequence, item.Failures)}
	// While there is still something to command the count changes with every
	// object; it is reported once all that can be done is to wait, or if a
	// command was refused.
	if len(r.Commands) == 0 || item.Failures > 0 {
		if d, changed := report(e, ns, left, item, now); changed {
			r.Decisions = append(r.Decisions, d)
		}
	}
	return r
}

// content is what is to be seen to before the next: the pods of a namespace, and
// when there are none, all else.
type content struct {
	objects []*projections.Entry
	// rest are Kubernetes Event objects. They are deleted like all else, but
	// nothing waits for them: they go by themselves.
	rest []*projections.Entry
}

func contents(v runner.View, namespace string) content {
	var c content
	c.collect(v.List("", "pods", namespace))
	if len(c.objects) > 0 {
		return c
	}
	for r := range v.Resources() {
		c.collect(v.List(r.Group, r.Resource, namespace))
	}
	if v.Volatile == nil {
		return c
	}
	for r := range v.Volatile.Resources() {
		list := v.Volatile.List(r.Group, r.Resource, namespace)
		if r.Resource == "events" {
			c.rest = slices.AppendSeq(c.rest, list)
		} else {
			c.collect(list)
		}
	}
	return c
}

func (c *content) collect(list func(func(*projections.Entry) bool)) {
	for e := range list {
		if e.Ref.Namespace != "" {
			c.objects = append(c.objects, e)
		}
	}
}

// deletions are the commands for what is not on its way out already. After a
// refusal they begin with the next one, so that what is refused holds up no
// other. The rest comes last, so that no command that lasts depends on it.
func (c content) deletions(because uint64, failures int) []runner.Command {
	out := deletionsOf(c.objects, because)
	if len(out) > 0 {
		first := failures % len(out)
		out = slices.Concat(out[first:], out[:first])
	}
	out = append(out, deletionsOf(c.rest, because)...)
	return out[:min(len(out), maxCommands)]
}

func deletionsOf(objects []*projections.Entry, because uint64) []runner.Command {
	var out []runner.Command
	for _, e := range objects {
		if e.Meta().DeletionTimestamp == nil {
			out = append(out, runner.Command{
				Verb: runner.Delete, Object: e.Ref, Because: because, UID: e.UID,
				Propagation: string(metav1.DeletePropagationBackground),
			})
		}
	}
	return out
}

// end takes away the finalizer that the namespace was kept by; with the last of
// them, the namespace is gone.
func end(e *projections.Entry, ns *v1.Namespace, because uint64) events.Decision {
	others := slices.DeleteFunc(slices.Clone(ns.Spec.Finalizers), func(f v1.FinalizerName) bool { return f == v1.FinalizerKubernetes })
	switch {
	case len(others) > 0:
		return runner.Patch(e, finalized, because, runner.Set("/spec/finalizers", others))
	case len(ns.Finalizers) > 0:
		return runner.Patch(e, finalized, because, runner.Unset("/spec/finalizers"))
	}
	return runner.Removal(e, emptied, because)
}
