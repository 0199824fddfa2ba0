package events

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Change is one event to be: what an agent or the gate wants to have happened
// to one object.
type Change struct {
	Type   string
	Object Ref
	UID    string
	// Data is as in Event: the whole object in canonical JSON for a creation,
	// a JSON Patch for anything else.
	Data []byte
	// Note is as in Event.
	Note []byte
	// Optional is as in Event.
	Optional bool

	// canonical is the extent of Data if that is known to be canonical JSON.
	canonical extent
}

// Expectation says how an object stood when the writer looked.
type Expectation struct {
	Object Ref
	// Sequence is that of the object's last event; zero expects that there is
	// no such object.
	Sequence uint64
}

// Decision is what a decider proposes: changes that belong together, the event
// that led to them, and what must still hold for them to be right. It is a
// value: the same view and time give the same decision.
type Decision struct {
	// Because becomes the Cause of each event.
	Because uint64
	Changes []Change
	Expect  []Expectation
}

// Proposal is a decision on its way to the committer, with who proposes it.
type Proposal struct {
	Decision
	Actor Actor
	User  string
	Audit string
	// Basis, Now and Asked are as in Event.
	Basis uint64
	Now   time.Time
	Asked []byte
}

// Volatile says whether the proposal is one for the log of volatile objects.
func (p *Proposal) Volatile() bool { return len(p.Changes) > 0 && Volatile(p.Changes[0].Object) }

// Awaited says whether a person, or a program from outside, asks for it and waits: what
// comes through the API, and because of no event.
func (p *Proposal) Awaited() bool { return p.Because == 0 && p.Actor.Kind == "api" }

// Receipt says where a proposal's events stand in the log. Once a receipt is
// given, the events are durable.
type Receipt struct {
	First, Last uint64
}

// Proposer gives proposals their place in the log: the committer itself, or a
// way to reach it.
type Proposer interface {
	// Propose appends all the proposal's events, atomically, or none. It fails
	// with a *ConflictError if an expectation does not hold, with a
	// *RefusedError if the proposal may not be appended as it stands whatever
	// the state, and with ErrUnavailable (wrapped) if it is not known whether a
	// committer is there; after ErrUncertain (wrapped) the events may or may
	// not be in the log, and the writer must look.
	Propose(ctx context.Context, p Proposal) (Receipt, error)
}

// Offerer is a Proposer that takes more proposals while others wait for their answers,
// so that one goroutine can wait for many. As many goroutines, woken at once when their
// group is durable, keep all others from a processor until each has had its turn.
type Offerer interface {
	Proposer
	// Offer puts a proposal in line and returns what waits for its answer, which says what
	// Propose would have said. It fails where nothing was put in line.
	Offer(ctx context.Context, p Proposal) (answer func() (Receipt, error), err error)
}

var (
	// ErrUnavailable says that no committer answered and nothing was appended.
	ErrUnavailable = errors.New("no committer is available; nothing was appended")
	// ErrUncertain says that the answer was lost: the writer must catch up and
	// look whether its events are there.
	ErrUncertain = errors.New("it is not known whether the events were appended")
	// ErrNewerLog says that the log holds what only a newer version of this
	// program can read.
	ErrNewerLog = errors.New("the log was written by a newer version of reprise; upgrade this one")
)

// ConflictError says that the object has changed since the writer looked. It is
// the normal way in which two writers meet: catch up and decide again.
type ConflictError struct {
	Object   Ref
	Expected uint64 // zero: expected absent
	Actual   uint64 // zero: is absent
}

func (e *ConflictError) Error() string {
	switch {
	case e.Expected == 0:
		return fmt.Sprintf("%s exists already (sequence %d)", e.Object, e.Actual)
	case e.Actual == 0:
		return fmt.Sprintf("%s is gone (expected at sequence %d)", e.Object, e.Expected)
	}
	return fmt.Sprintf("%s has changed: expected sequence %d, is at %d", e.Object, e.Expected, e.Actual)
}

// RefusedError says that a proposal breaks a rule that no retry mends: the
// writer does not own the type, the patch leaves the type's paths, or it does
// not apply; or it is too large for the log, or names what the log cannot.
type RefusedError struct {
	Type   string
	Object Ref
	Actor  Actor
	Reason string
	// Unwieldy says that it is the latter: whoever asked for it can mend it, and the
	// writer may be as it should.
	Unwieldy bool `json:",omitempty"`
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s on %s by %s refused: %s", e.Type, e.Object, e.Actor, e.Reason)
}
