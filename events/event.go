// Package events is the vocabulary of Reprise: the immutable facts that make up
// a cluster's history, who may write them, how they read as text, how a change
// between two versions of an object is expressed and applied, and the Log that
// keeps them in one order.
//
// Everything in Reprise speaks it; it speaks to nothing. It imports no NATS and
// no Kubernetes machinery, reads no clock and draws no random number: two
// machines, in any two years, that are given the same events compute the same
// bytes.
package events

import (
	"strings"
	"time"
)

// Event is one fact about one object, in the past tense.
//
// # Evolution
//
// History outlives every version of this program, so the envelope and the types
// follow rules that are never broken: a type's name is never reused for another
// meaning; fields are only ever added, and are optional; no field is a float;
// and a reader that meets a type it does not know stops, unless the event itself
// says that it is Optional.
type Event struct {
	// Sequence is the event's place in the log, from 1, without gaps. It is
	// zero until the log has given it one, and is also the Kubernetes
	// resourceVersion of the object after this event.
	Sequence uint64
	// Type is "<noun>.<fact>", such as "pod.bound". See Rules.
	Type string
	// Object is what the fact is about.
	Object Ref
	// UID is the object's metadata.uid: it tells two objects apart that bore
	// the same name one after the other.
	UID string
	// Actor is the program that wrote the event.
	Actor Actor
	// User is the person or service account on whose request the gate wrote
	// it, empty for what an agent decided by itself.
	User string
	// Audit is the id of the API request that caused it, if one did.
	Audit string
	// Cause is the sequence of the event that led to this one. Zero says that
	// the cause lies outside of the log: a person's command or an outside fact.
	Cause uint64
	// Time is when the committer appended the event, in UTC, to the
	// millisecond. It never runs backwards within a log.
	Time time.Time
	// Basis is the sequence of the view that a decision was made on, and Now
	// the time that the decider was given: what replay needs to ask again.
	Basis uint64
	Now   time.Time
	// Asked is what else the decider was given, as JSON, and a digest of all that
	// it answered: see runner.Asked, in agents. It is there also on what the gate
	// wrote for a decider. Empty for what no decider decided, and in logs from
	// before it was recorded.
	Asked []byte
	// Optional marks an event that a reader which does not know its type may
	// skip.
	Optional bool
	// More says that the next event belongs to the same decision: a reader
	// folds a decision whole or not at all.
	More bool
	// Note is what the decider has to say about its decision, as JSON: for
	// pod.bound the candidates, refusals and scores. May be empty.
	Note []byte
	// Chain is the SHA-256 over the previous event's Chain and this event. See
	// Link.
	Chain [32]byte
	// Data is the change. For a type whose Change is Create it is the whole
	// object, in canonical JSON (see Canonical); for every other it is an RFC
	// 6902 JSON Patch on the version before. A deletion is the patch that
	// removes the root.
	Data []byte

	judged *judged
}

// Noun is the part of the type before the dot, the object's kind in lower case.
func (e *Event) Noun() string { n, _, _ := strings.Cut(e.Type, "."); return n }

// Fact is the part of the type after the dot.
func (e *Event) Fact() string { _, f, _ := strings.Cut(e.Type, "."); return f }

// Ref names an object: the identity under which its history is filed.
type Ref struct {
	Group     string // API group, "" for core
	Resource  string // plural, lower case: "pods"
	Namespace string // "" for an object that is in none
	Name      string
}

// String is the text form: pods/shop/web-1, deployments.apps/shop/web, nodes/n1.
func (r Ref) String() string {
	var b strings.Builder
	b.WriteString(r.Resource)
	if r.Group != "" {
		b.WriteByte('.')
		b.WriteString(r.Group)
	}
	b.WriteByte('/')
	if r.Namespace != "" {
		b.WriteString(r.Namespace)
		b.WriteByte('/')
	}
	b.WriteString(r.Name)
	return b.String()
}

// GroupResource is the resource with its group, as the owners table names it:
// pods, deployments.apps.
func (r Ref) GroupResource() string {
	if r.Group == "" {
		return r.Resource
	}
	return r.Resource + "." + r.Group
}

// Compare orders references by group, resource, namespace and name: the order
// of every listing and of every dump.
func (r Ref) Compare(o Ref) int {
	if c := strings.Compare(r.Group, o.Group); c != 0 {
		return c
	}
	if c := strings.Compare(r.Resource, o.Resource); c != 0 {
		return c
	}
	if c := strings.Compare(r.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(r.Name, o.Name)
}

// Actor is a program that writes events.
type Actor struct {
	// Kind is what the owners table knows it by: "api", "scheduler", "node",
	// "controller".
	Kind string
	// Name tells actors of one kind apart: the controller's or the node's name.
	Name string
	// Version is the version of the program that wrote.
	Version string
}

// String is "kind" or "kind:name": scheduler, controller:deployment, node:n1.
func (a Actor) String() string {
	if a.Name == "" {
		return a.Kind
	}
	return a.Kind + ":" + a.Name
}
