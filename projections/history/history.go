// Package history is how to ask what happened: the events of an object or of
// many, what led to an event and what followed from it, and how the cluster was
// at any sequence or time. A durable projection (projections/pebble) answers;
// the command line and agents/historian ask. It never changes anything.
package history

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Reader answers questions about the past, up to the sequence that it has
// folded.
type Reader interface {
	// Folded is the sequence up to which it can tell.
	Folded() uint64
	// Event returns one event. It fails with events.ErrNotFound (wrapped) if
	// there is none at that sequence.
	Event(sequence uint64) (events.Event, error)
	// Events yields the events that the query asks for, in the order of their
	// sequence, or backwards if the query says so. An error ends it.
	Events(ctx context.Context, q Query) iter.Seq2[events.Event, error]
	// Following yields the events whose Cause is the sequence, in order.
	Following(ctx context.Context, sequence uint64) iter.Seq2[events.Event, error]
	// ObjectOf returns the reference that the object with a uid has or had. It
	// says false if there never was one.
	ObjectOf(uid string) (events.Ref, bool, error)
	// Resources returns the resources that there ever were objects of, in order:
	// references of which group and resource are set.
	Resources(ctx context.Context) ([]events.Ref, error)
	// Named returns the references of a resource that ever had an object of the
	// name, one for each namespace, in order.
	Named(ctx context.Context, group, resource, name string) ([]events.Ref, error)
	// SequenceAt returns the sequence of the last event at or before a time, 0 if
	// there was none.
	SequenceAt(t time.Time) (uint64, error)
	// At returns the object as it was once the event at sequence was folded, nil
	// if there was none of that name.
	At(ref events.Ref, sequence uint64) (*projections.Entry, error)
	// ListAt yields the objects of a resource as they were, in the order of
	// events.Ref.Compare; namespace "" means all namespaces.
	ListAt(ctx context.Context, group, resource, namespace string, sequence uint64) iter.Seq2[*projections.Entry, error]
	// ListFrom is ListAt without the objects that come before one, which need not
	// be there, and without those after the first most of them, if that is not 0. It
	// is how to go on with a list.
	ListFrom(ctx context.Context, from events.Ref, namespace string, sequence uint64, most int) iter.Seq2[*projections.Entry, error]
	// CountFrom counts what ListFrom would yield in all, without reading it.
	CountFrom(ctx context.Context, from events.Ref, namespace string, sequence uint64) (int, error)
	// StateAt returns the whole cluster as it was.
	StateAt(ctx context.Context, sequence uint64) (*projections.State, error)
}

// Query says which events are asked for. What is zero does not restrict.
type Query struct {
	// Object is whose events; UID picks one of those that bore the name one
	// after the other, or stands alone.
	Object events.Ref
	UID    string
	// Resource is "<plural>.<group>" or "<plural>" for core.
	Resource  string
	Namespace string
	// Type is "<noun>.<fact>"; either part may be "*".
	Type string
	// Actor is "kind" or "kind:name"; User is a person or service account.
	Actor, User string
	// First and Last are the sequences between which to look, both included;
	// Last zero means to the end.
	First, Last uint64
	// Since and Until are the times between which to look, both included.
	Since, Until time.Time
	// Limit is the most events to yield.
	Limit int
	// Backward asks for the newest first.
	Backward bool
	// Bare leaves Data out of the events, which then cost half as much.
	Bare bool
}

// Matches says whether an event is one that the query asks for. Limit
// is not its affair.
func (q *Query) Matches(e *events.Event) bool {
	return (q.Object == events.Ref{} || q.Object == e.Object) &&
		(q.UID == "" || q.UID == e.UID) &&
		(q.Resource == "" || q.Resource == e.Object.GroupResource()) &&
		(q.Namespace == "" || q.Namespace == e.Object.Namespace) &&
		(q.User == "" || q.User == e.User) &&
		(q.Actor == "" || q.Actor == e.Actor.String() || q.Actor == e.Actor.Kind) &&
		(q.Type == "" || typeMatches(q.Type, e.Type)) &&
		e.Sequence >= q.First && (q.Last == 0 || e.Sequence <= q.Last) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) &&
		(q.Until.IsZero() || !e.Time.After(q.Until))
}

func typeMatches(pattern, typ string) bool {
	noun, fact, _ := strings.Cut(pattern, ".")
	n, f, _ := strings.Cut(typ, ".")
	return (noun == "*" || noun == n) && (fact == "*" || fact == f)
}
