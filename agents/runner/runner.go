// Package runner holds the one loop that drives every decider: follow the log,
// fold it, and when caught up or woken, decide and append.
//
//	for {
//		select {
//		case c := <-changes:        dirty += decider.Concerns(c)
//		case <-caughtUp, <-wake:    for item in dirty: decide; append what was decided
//		}
//	}
//
// What must hold: an item is decided again only on a view that has folded what
// the last decision on it appended; on a conflict the view catches up and the
// item is decided again; a decider that is fed its own output decides nothing.
// Which replica decides is elected around Run, not here: see committer.Elect in
// events. A deposed one is harmless, for its expectations fail.
//
// Deciders know nothing of all this. They are pure functions of a view, an item
// and the time.
package runner

import (
	"context"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Decider is an agent's logic as a pure function. It keeps no state, reads no
// clock, starts no goroutine and logs nothing; its methods may be called for
// several items at a time.
type Decider interface {
	// Actor is who writes the decisions; its Kind and Name are in the owners
	// table.
	Actor() events.Actor
	// Concerns names the items whose decision the change may alter. v is a view
	// that has folded the change. At start it is called with every object there
	// is as a creation, by an event that has a sequence and an object but no
	// type.
	Concerns(v View, c projections.Change) []events.Ref
	// Decide says what to do about one item. It must be deterministic, order
	// included, and must decide nothing on a view that has folded its own
	// output.
	Decide(v View, item Item, now time.Time) Result
}

// Patient is a Decider for which nobody waits: the loop gathers items for a while,
// so that many decisions share what an append costs.
type Patient interface {
	Decider
	// Gather is for how long an item waits for others.
	Gather() time.Duration
}

// View is what a decider sees: the cluster by its history, and the volatile
// objects (leases) beside it.
type View struct {
	projections.Reader
	// Volatile holds the objects for which events.Volatile is true. May be nil.
	Volatile projections.Reader
}

// Item is one piece of work.
type Item struct {
	// Ref names it: mostly an object of the decider's kind, which may be gone.
	Ref events.Ref
	// Because is the sequence of the newest change that concerned the item:
	// the Because of what is decided now.
	Because uint64
	// Failures counts the refusals in a row of the item's commands, and Failure
	// is the last one's text: a decider may report it in a condition. The runner
	// backs off by itself.
	Failures int
	Failure  string
}

// Result is what a decider decided about an item. Commands are carried out
// first, in order, until one is refused; neighbours that do the same to objects
// of one resource may be carried out side by side. Then each decision is
// appended, all side by side, for none rests on another.
type Result struct {
	// Commands create and delete objects through the gate, where defaulting,
	// admission and validation apply.
	Commands []Command
	// Decisions are facts on existing objects, appended directly.
	Decisions []events.Decision
	// Wake is when to decide again though nothing changed; zero for never.
	Wake time.Time
}

// Verb says what a command does.
type Verb string

// The verbs of commands.
const (
	Create Verb = "create"
	Delete Verb = "delete"
)

// Command is a request to the gate on behalf of an agent.
type Command struct {
	Verb    Verb
	Object  events.Ref
	Because uint64
	// Body is the object to create, as JSON with apiVersion and kind.
	Body []byte
	// UID and Sequence, where set, are preconditions of a deletion.
	UID      string
	Sequence uint64
	// GracePeriod is in seconds; nil leaves it to the object. Propagation is a
	// metav1.DeletionPropagation or "".
	GracePeriod *int64
	Propagation string
	// Origin is set by the runner: what the decision to give the command was made
	// on.
	Origin Origin
}

// Gate is the entrance for commands: authentication as the agent's own
// identity, authorization, admission and validation, then an event.
type Gate interface {
	// Do carries out the command and returns the sequence of the event, or of
	// the object as it stands if nothing had to change. Refusals are
	// *apierrors.StatusError. A creation of what exists and a deletion of what
	// is gone (or has another UID) are no errors: the sequence returned is then
	// zero.
	Do(ctx context.Context, actor events.Actor, c Command) (sequence uint64, err error)
}
