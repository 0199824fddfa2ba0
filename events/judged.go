package events

import (
	"unsafe"
)

// extent names some bytes by where they lie. Bytes that are the same extent as
// others, and are not changed, have what those were found to have.
type extent struct {
	start  *byte
	length int
}

func extentOf(b []byte) extent { return extent{unsafe.SliceData(b), len(b)} }

// judged is what was found out about an event before it was appended. Whoever folds
// it in the same process need not find it out again. It never comes from elsewhere:
// it is neither encoded nor decoded.
type judged struct {
	data   extent // it holds for these bytes
	effect Effect
	ops    []Op
	// Once it has a place in the log, the chain of the event before it, and its own.
	prev, chain [32]byte
	// For an event that changes its object: what came of the version of a sequence.
	version uint64
	after   []byte
	outline Outline
}

// Event returns one of the proposal's changes as it will stand in the log, but for
// what only its place there can tell: Sequence, Time, Chain and More, and for an
// object that tells its UID itself that too. It fails with a *RefusedError if the
// owners table does not allow the change.
func (p *Proposal) Event(i int) (Event, error) {
	c := &p.Changes[i]
	rules := rulesFor(c.Type, c.Object)
	ops, reason := check(nil, rules, c, p.Actor)
	if reason != "" {
		return Event{}, &RefusedError{Type: c.Type, Object: c.Object, Actor: p.Actor, Reason: reason}
	}
	return Event{
		Type: c.Type, Object: c.Object, UID: c.UID,
		Actor: p.Actor, User: p.User, Audit: p.Audit,
		Cause: p.Because, Basis: p.Basis, Now: p.Now, Asked: p.Asked,
		Optional: c.Optional, Note: c.Note, Data: c.Data,
		judged: &judged{data: extentOf(c.Data), effect: rules[0].Effect, ops: ops},
	}, nil
}

// Judged returns the effect of an event that was made by Proposal.Event in this
// process, and the operations of its patch, which nobody may change. It says false
// of any other event.
func (e *Event) Judged() (Effect, []Op, bool) {
	if e.judged == nil || e.judged.data != extentOf(e.Data) {
		return 0, nil, false
	}
	return e.judged.effect, e.judged.ops, true
}

// Try applies the event's operations to a version of its object, given with its
// outline, which becomes that of the result, and with the sequence of the event that
// made it. What comes of it is kept for Apply.
func (e *Event) Try(before []byte, version uint64, o *Outline, ops []Op) ([]byte, error) {
	after, err := ApplyOutlined(before, o, ops)
	if err == nil && e.judged != nil {
		e.judged.version, e.judged.after, e.judged.outline = version, after, *o
	}
	return after, err
}

// Apply is Try for who folds the event: it does not do again what was tried on the
// same version before.
func (e *Event) Apply(before []byte, version uint64, o *Outline, ops []Op) ([]byte, error) {
	if _, _, known := e.Judged(); known && e.judged.after != nil && e.judged.version == version {
		*o = e.judged.outline
		return e.judged.after, nil
	}
	return ApplyOutlined(before, o, ops)
}

// link remembers which chain was made of the event, and behind which.
func (e *Event) link(prev, chain [32]byte) {
	if e.judged != nil {
		e.judged.prev, e.judged.chain = prev, chain
	}
}

// follows says that the event's chain was made behind another, in this process, of what
// the event had then. Its data are known to be the same.
func (e *Event) follows(prev [32]byte) bool {
	_, _, known := e.Judged()
	return known && e.judged.prev == prev && e.judged.chain == e.Chain && e.Chain != [32]byte{}
}

// Held is how many bytes are kept in memory for Apply, beside the event's own.
func (e *Event) Held() int {
	if e.judged == nil {
		return 0
	}
	return len(e.judged.after)
}

// Forget drops what was found out about the event before it was appended.
func (e *Event) Forget() { e.judged = nil }
