package committer

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/reprise-run/reprise/events"
)

// standing is how an object stands since an event: its canonical JSON, nil if it
// is not there.
type standing struct {
	raw  []byte
	uid  string
	last uint64
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

// draft is a state with the changes of proposals on top that were judged good.
type draft struct {
	below  state
	writes map[events.Ref]standing
}

func newDraft(below state) *draft {
	return &draft{below: below, writes: make(map[events.Ref]standing)}
}

func (d *draft) standing(object events.Ref) standing {
	if s, ok := d.writes[object]; ok {
		return s
	}
	return d.below.standing(object)
}

// verdict is what a good proposal comes to: its events, lacking what the log
// gives them (time and chain), and how the objects stand after them.
type verdict struct {
	events []events.Event
	writes map[events.Ref]standing
}

// judge decides about one proposal, whose first event would get the sequence
// next.
func judge(s state, p *events.Proposal, next uint64, volatile bool) (verdict, error) {
	if p.Basis >= next && !volatile {
		// The writer has seen what this committer has not appended: its term is over,
		// and it does not know yet. Against what it knows it could only judge wrongly.
		return verdict{}, fmt.Errorf("the proposal rests on sequence %d, and this committer knows of none after %d, so another one appends now: %w",
			p.Basis, next-1, events.ErrUnavailable)
	}
	if err := admissible(p, next, volatile); err != nil {
		return verdict{}, err
	}
	for _, x := range p.Expect {
		if is := s.standing(x.Object).sequence(); is != x.Sequence {
			return verdict{}, &events.ConflictError{Object: x.Object, Expected: x.Sequence, Actual: is}
		}
	}
	mine := newDraft(s)
	out := make([]events.Event, len(p.Changes))
	for i, c := range p.Changes {
		after, err := judgeChange(p, c, mine.standing(c.Object))
		if err != nil {
			return verdict{}, err
		}
		after.last = next + uint64(i)
		mine.writes[c.Object] = after
		out[i] = event(p, c, after)
		out[i].More = i < len(out)-1
	}
	return verdict{out, mine.writes}, nil
}

// admissible refuses what is wrong with a proposal whatever the state.
func admissible(p *events.Proposal, next uint64, volatile bool) error {
	if len(p.Changes) == 0 {
		return refused(p, events.Change{}, "the proposal changes nothing")
	}
	if n := len(p.Changes); n > events.MaxBatch {
		return refused(p, p.Changes[0], fmt.Sprintf("a decision is appended at once, and %d events are more than the log takes at once (%d)", n, events.MaxBatch))
	}
	if !volatile && p.Because >= next {
		return refused(p, p.Changes[0], fmt.Sprintf("its cause, sequence %d, is not in the log, which ends at %d", p.Because, next-1))
	}
	if len(p.Asked) > 0 && !json.Valid(p.Asked) {
		return refused(p, p.Changes[0], "what its decider was asked is not JSON")
	}
	for _, c := range p.Changes {
		if events.Volatile(c.Object) != volatile {
			return refused(p, c, "volatile objects have a log of their own, and this proposal was sent to the wrong one")
		}
		if reason := unwieldy(p, c); reason != "" {
			return refused(p, c, reason)
		}
	}
	return nil
}

// judgeChange returns how the object stands after the change; raw is nil if it
// is gone. Its sequence is left to the caller.
func judgeChange(p *events.Proposal, c events.Change, before standing) (standing, error) {
	ops, err := events.CheckOps(c, p.Actor)
	if err != nil {
		return standing{}, err
	}
	effect, _ := events.EffectOf(c.Type, c.Object)
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
	switch effect {
	case events.Removes:
		after = standing{uid: before.uid}
	case events.Changes:
		after, err = applied(p, c, ops, before)
	default:
		after, err = whole(p, c)
	}
	if err != nil {
		return standing{}, err
	}
	reason := trespass(p.Actor, c.Object, before, after)
	if n := len(after.raw); reason == "" && n > maxObject && n > len(before.raw) {
		reason = fmt.Sprintf("the object would have %d bytes, and may have %d", n, maxObject)
	}
	if reason != "" {
		return standing{}, refused(p, c, reason)
	}
	return after, nil
}

func refused(p *events.Proposal, c events.Change, reason string) error {
	return &events.RefusedError{Type: c.Type, Object: c.Object, Actor: p.Actor, Reason: reason}
}

// whole takes a whole object. Its uid is told twice, by the change and within
// the object: where one is silent the other counts.
func whole(p *events.Proposal, c events.Change) (standing, error) {
	uid, _ := events.Text(events.Lookup(c.Data, "metadata", "uid"))
	if uid != "" && c.UID != "" && uid != c.UID {
		return standing{}, refused(p, c, fmt.Sprintf("the object says that its uid is %q, and the change that it is %q", uid, c.UID))
	}
	return standing{raw: c.Data, uid: cmp.Or(c.UID, uid)}, nil
}

// applied folds a patch. One that does not apply is a conflict if the object has
// changed since the decision was made, and otherwise a mistake.
func applied(p *events.Proposal, c events.Change, ops []events.Op, before standing) (standing, error) {
	raw, err := events.ApplyOps(before.raw, ops)
	if err == nil {
		return standing{raw: raw, uid: before.uid}, nil
	}
	if before.last > p.Basis && !expects(p, c.Object) {
		return standing{}, outdated(p, c, before)
	}
	return standing{}, refused(p, c, "the patch does not apply: "+err.Error())
}

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
func outdated(p *events.Proposal, c events.Change, is standing) error {
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

// event is the change as it will stand in the log, but for time and chain.
func event(p *events.Proposal, c events.Change, after standing) events.Event {
	return events.Event{
		Sequence: after.last,
		Type:     c.Type, Object: c.Object, UID: after.uid,
		Actor: p.Actor, User: p.User, Audit: p.Audit,
		Cause: p.Because, Basis: p.Basis, Now: millisecond(p.Now), Asked: p.Asked,
		Optional: c.Optional, Note: c.Note, Data: c.Data,
	}
}
