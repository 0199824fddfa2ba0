package committer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// standing is how an object stands since an event: its canonical JSON, nil if it
// is not there.
type standing struct {
	raw     []byte
	outline events.Outline // of raw, where it is known
	uid     string
	last    uint64
}

// sequence is what an expectation names: that of the object's last event, zero
// if it is not there.
func (s standing) sequence() uint64 {
	if s.raw == nil {
		return 0
	}
	return s.last
}

// state is what proposals are judged against.
type state interface {
	standing(object events.Ref) standing
}

// bench judges proposals one after the other, each on top of those before it that
// were judged good: what is gathered for one append.
type bench struct {
	below state
	// next is the sequence that the next event would get.
	next     uint64
	volatile bool
	shape    func(events.Change, []events.Op) error // may be nil

	// events are those of the good proposals, lacking what the log gives them (time
	// and chain), and after how their objects stand after each.
	events []events.Event
	after  []standing
	writes map[events.Ref]standing // the last of after for each object
	undo   []write                 // of the proposal that is being judged, what was before
	// looked is what was looked up last below for that proposal: what is expected of an
	// object is mostly asked of the one that changes next.
	looked struct {
		object events.Ref
		standing
		known bool
	}
}

type write struct {
	object events.Ref
	standing
	there bool
}

func (b *bench) standing(object events.Ref) standing {
	if s, ok := b.writes[object]; ok {
		return s
	}
	if !b.looked.known || b.looked.object != object {
		b.looked.object, b.looked.standing, b.looked.known = object, b.below.standing(object), true
	}
	return b.looked.standing
}

// judge decides about one proposal. Without error its events are added.
func (b *bench) judge(p *events.Proposal) error {
	b.undo, b.looked.known = b.undo[:0], false
	begin, next := len(b.events), b.next
	err := b.try(p)
	if err == nil {
		return nil
	}
	b.events, b.after, b.next = b.events[:begin], b.after[:begin], next
	for i := len(b.undo) - 1; i >= 0; i-- {
		if w := &b.undo[i]; w.there {
			b.writes[w.object] = w.standing
		} else {
			delete(b.writes, w.object)
		}
	}
	return err
}

func (b *bench) try(p *events.Proposal) error {
	end := b.next - uint64(len(b.events)) // what the group has is not in the log yet
	if p.Basis >= end && !b.volatile {
		// The writer has seen what this committer has not appended: its term is over,
		// and it does not know yet. Against what it knows it could only judge wrongly.
		return fmt.Errorf("the proposal rests on sequence %d, and this committer knows of none after %d, so another one appends now: %w",
			p.Basis, end-1, events.ErrUnavailable)
	}
	if err := admissible(p, end, b.volatile); err != nil {
		return err
	}
	for _, x := range p.Expect {
		if is := b.standing(x.Object).sequence(); is != x.Sequence {
			return &events.ConflictError{Object: x.Object, Expected: x.Sequence, Actual: is}
		}
	}
	for i := range p.Changes {
		change, err := p.Event(i)
		if err != nil {
			return err
		}
		b.events = append(b.events, change)
		e := &b.events[len(b.events)-1]
		after, err := b.judgeChange(p, &p.Changes[i], e)
		if err != nil {
			return err
		}
		after.last = b.next
		e.Sequence, e.UID, e.Now, e.More = b.next, after.uid, millisecond(e.Now), i < len(p.Changes)-1
		b.add(e.Object, after)
	}
	return nil
}

// concerns says whether the group has something about an object of a proposal.
func (b *bench) concerns(p *events.Proposal) bool {
	there := func(object events.Ref) bool { _, is := b.writes[object]; return is }
	return slices.ContainsFunc(p.Expect, func(x events.Expectation) bool { return there(x.Object) }) ||
		slices.ContainsFunc(p.Changes, func(c events.Change) bool { return there(c.Object) })
}

// add notes how an object stands after the next event.
func (b *bench) add(object events.Ref, after standing) {
	before, there := b.writes[object]
	b.undo = append(b.undo, write{object, before, there})
	b.writes[object] = after
	b.after = append(b.after, after)
	b.next++
}

// admissible refuses what is wrong with a proposal whatever the state.
func admissible(p *events.Proposal, next uint64, volatile bool) error {
	if len(p.Changes) == 0 {
		return refused(p, &events.Change{}, "the proposal changes nothing")
	}
	if n := len(p.Changes); n > events.MaxBatch {
		return refused(p, &p.Changes[0], fmt.Sprintf("a decision is appended at once, and %d events are more than the log takes at once (%d)", n, events.MaxBatch))
	}
	if !volatile && p.Because >= next {
		return refused(p, &p.Changes[0], fmt.Sprintf("its cause, sequence %d, is not in the log, which ends at %d", p.Because, next-1))
	}
	if len(p.Asked) > 0 && !json.Valid(p.Asked) {
		return refused(p, &p.Changes[0], "what its decider was asked is not JSON")
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		if events.Volatile(c.Object) != volatile {
			return refused(p, c, "volatile objects have a log of their own, and this proposal was sent to the wrong one")
		}
		if reason := unwieldy(p, c); reason != "" {
			return tooMuch(p, c, reason)
		}
	}
	return nil
}

// judgeChange returns how the object stands after the change, which e is the event
// of; raw is nil if it is gone. Its sequence is left to the caller.
func (b *bench) judgeChange(p *events.Proposal, c *events.Change, e *events.Event) (standing, error) {
	before := b.standing(c.Object)
	effect, ops, _ := e.Judged()
	switch {
	case effect == events.Changes && events.Volatile(c.Object):
		return standing{}, refused(p, c, "volatile objects are put whole, for what a patch rests on may have aged away")
	case effect == events.Creates && before.raw != nil:
		return standing{}, &events.ConflictError{Object: c.Object, Actual: before.last}
	case effect == events.Changes || effect == events.Removes:
		if before.raw == nil || (c.UID != "" && c.UID != before.uid) {
			return standing{}, outdated(p, c, before)
		}
	}
	var after standing
	var err error
	switch effect {
	case events.Removes:
		after = standing{uid: before.uid}
	case events.Changes:
		after, err = applied(p, c, e, ops, before)
	default:
		after, err = whole(p, c)
	}
	if err != nil {
		return standing{}, err
	}
	reason := trespass(p.Actor, c.Object, before, after, ops)
	if n := len(after.raw); reason == "" && n > maxObject && n > len(before.raw) {
		return standing{}, tooMuch(p, c, fmt.Sprintf("the object would have %d bytes, and may have %d", n, maxObject))
	}
	if reason == "" && p.Actor.Kind == "node" && b.shape != nil {
		if err := b.shape(*c, ops); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		return standing{}, refused(p, c, reason)
	}
	return after, nil
}

// refused is the answer to a proposal with a change that may not be, whatever has changed
// meanwhile.
func refused(p *events.Proposal, c *events.Change, reason string) error {
	return &events.RefusedError{Type: c.Type, Object: c.Object, Actor: p.Actor, Reason: reason}
}

// tooMuch is the answer to a proposal with a change that is too large, or names what cannot
// be named.
func tooMuch(p *events.Proposal, c *events.Change, reason string) error {
	return &events.RefusedError{Type: c.Type, Object: c.Object, Actor: p.Actor, Reason: reason, Unwieldy: true}
}

// whole takes a whole object. Its uid is told twice, by the change and within
// the object: where one is silent the other counts.
func whole(p *events.Proposal, c *events.Change) (standing, error) {
	uid, _ := events.Text(events.Lookup(c.Data, "metadata", "uid"))
	if uid != "" && c.UID != "" && uid != c.UID {
		return standing{}, refused(p, c, fmt.Sprintf("the object says that its uid is %q, and the change that it is %q", uid, c.UID))
	}
	if len(uid) > maxUID || strings.ContainsFunc(uid, control) {
		return standing{}, refused(p, c, fmt.Sprintf("a uid has at most %d bytes, none of which control anything", maxUID))
	}
	return standing{raw: c.Data, uid: cmp.Or(c.UID, uid)}, nil
}

// applied folds a patch. One that does not apply is a conflict if the object has
// changed since the decision was made, and otherwise a mistake.
func applied(p *events.Proposal, c *events.Change, e *events.Event, ops []events.Op, before standing) (standing, error) {
	outline := before.outline
	raw, err := e.Try(before.raw, before.last, &outline, ops)
	if err == nil {
		return standing{raw: raw, outline: outline, uid: before.uid}, nil
	}
	if before.last > p.Basis && !expects(p, c.Object) {
		return standing{}, outdated(p, c, before)
	}
	return standing{}, refused(p, c, "the patch does not apply: "+err.Error())
}

// expects says whether a proposal names an expectation of an object.
func expects(p *events.Proposal, object events.Ref) bool {
	for _, x := range p.Expect {
		if x.Object == object {
			return true
		}
	}
	return false
}

// outdated says that the object is not as the writer saw it, or gone though
// another may bear its name. A writer that named no expectation is taken to have
// looked at its basis.
func outdated(p *events.Proposal, c *events.Change, is standing) error {
	conflict := &events.ConflictError{Object: c.Object, Expected: max(p.Basis, 1), Actual: is.sequence()}
	if c.UID != "" && c.UID != is.uid {
		conflict.Actual = 0
	}
	for _, x := range p.Expect {
		if x.Object == c.Object && x.Sequence != 0 {
			conflict.Expected = x.Sequence
		}
	}
	return conflict
}
