package projections

import (
	"fmt"

	"github.com/reprise-run/reprise/events"
)

// State is the cluster as of one sequence, in memory: the fold of the log up to
// there. One goroutine folds; the views that it hands out are anybody's.
type State struct {
	index    index
	sequence uint64
	view     *snapshot
	volatile bool
	trace    Trace
}

// NewState returns the state before the first event.
func NewState() *State { return &State{index: newIndex(), trace: Trace{}.after()} }

// NewVolatileState returns the state of a log for volatile objects before its
// first event. That log forgets: there may be gaps, an object may be there
// though its last event is not, and what became of it meanwhile counts for
// nothing.
func NewVolatileState() *State {
	return &State{index: newIndex(), trace: Trace{}.after(), volatile: true}
}

// Sequence is that of the last event folded.
func (s *State) Sequence() uint64 { return s.sequence }

// Len is the number of objects there are.
func (s *State) Len() int { return s.index.objects.Len() }

// View returns the state of this moment. What is folded later does not change
// it.
func (s *State) View() Reader {
	if s.view == nil {
		place := s.trace
		s.view = &snapshot{index: s.index.copy(), sequence: s.sequence, trace: &place}
	}
	return s.view
}

// StartAt says that the log before and including a sequence is accounted for:
// by the objects that Put has loaded, or because a log that is limited by age
// has forgotten it.
func (s *State) StartAt(sequence uint64) {
	s.sequence = sequence
	s.view = nil
}

// Put files an object as a snapshot or a test has it, without an event.
func (s *State) Put(e *Entry) {
	s.put(e)
	s.view = nil
}

// Remove drops an object without an event.
func (s *State) Remove(ref events.Ref) {
	s.remove(ref)
	s.view = nil
}

func (s *State) put(e *Entry) {
	s.index.put(e)
	s.trace = s.trace.leave(e.Ref)
}

func (s *State) remove(ref events.Ref) {
	s.index.remove(ref)
	s.trace = s.trace.leave(ref)
}

// NewEntry returns a version of an object. raw is its canonical JSON and belongs
// to the entry from here on. uid may be "": then it is read from raw.
func NewEntry(ref events.Ref, uid string, created, sequence uint64, raw []byte) *Entry {
	e := &Entry{Ref: ref, UID: uid, Created: created, Sequence: sequence, Raw: raw}
	if uid == "" {
		e.UID = plainString(events.Lookup(raw, "metadata", "uid"))
	}
	e.link()
	return e
}

// Fold brings the state forward by events that follow it in the log, and says
// what they changed. Events that it has folded already are passed over, so that
// a reader may start again from where it is sure of. A batch is folded whole or,
// on an error, not at all; an error says that the log or this program is at
// fault, so the reader must stop.
func (s *State) Fold(batch []events.Event) ([]Change, error) {
	changes := make([]Change, 0, len(batch))
	start := s.sequence
	s.view = nil
	for i := range batch {
		ev := &batch[i]
		if ev.Sequence <= s.sequence {
			continue
		}
		c, err := s.fold(ev)
		if err != nil {
			s.undo(changes)
			s.sequence = start
			return nil, err
		}
		s.sequence = ev.Sequence
		ev.Forget()
		if c.Before != nil || c.After != nil {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// fold applies one event. The change is of nothing to nothing if the event was
// skipped.
func (s *State) fold(ev *events.Event) (Change, error) {
	if ev.Sequence != s.sequence+1 && !s.volatile {
		return Change{}, &GapError{Folded: s.sequence, Next: ev.Sequence}
	}
	before := s.index.get(ev.Object)
	step := Step
	if s.volatile {
		step = stepVolatile
	}
	after, err := step(before, ev)
	if err != nil {
		if _, unknown := err.(*UnknownTypeError); unknown && ev.Optional {
			return Change{}, nil
		}
		return Change{}, err
	}
	if after == nil {
		s.remove(ev.Object)
	} else {
		s.put(after)
	}
	return Change{Event: ev, Before: before, After: after}, nil
}

func (s *State) undo(changes []Change) {
	for i := len(changes) - 1; i >= 0; i-- {
		if c := changes[i]; c.Before != nil {
			s.put(c.Before)
		} else {
			s.remove(c.After.Ref)
		}
	}
}

// Step is the universal fold of one object: what the event makes of it, nil for
// an object that is not there. It is all that a projection does; what an event
// means is its type's affair.
func Step(before *Entry, ev *events.Event) (*Entry, error) {
	effect, ops, err := effectOf(ev)
	if err != nil {
		return nil, err
	}
	switch effect {
	case events.Creates:
		if before != nil {
			return nil, existsAlready(ev, before)
		}
		e := NewEntry(ev.Object, ev.UID, ev.Sequence, ev.Sequence, ev.Data)
		e.Version = 1
		return e, nil
	case events.Puts:
		return stepVolatile(before, ev)
	}
	if before == nil {
		return nil, notThere(ev)
	}
	if err := sameUID(ev, before); err != nil {
		return nil, err
	}
	if effect == events.Removes {
		return nil, nil
	}
	outline := before.outline
	raw, err := ev.Apply(before.Raw, before.Sequence, &outline, ops)
	if err != nil {
		return nil, doesNotApply(ev, err)
	}
	e := &Entry{
		Ref: before.Ref, UID: before.UID, Created: before.Created, Sequence: ev.Sequence, Version: before.Version + 1,
		Raw: raw, outline: outline, owners: before.owners, node: before.node,
	}
	if relinks(ops) {
		e.owners = nil
		e.link()
	}
	e.inherit(before, ops)
	return e, nil
}

// stepVolatile is Step where what was before may have been forgotten.
func stepVolatile(before *Entry, ev *events.Event) (*Entry, error) {
	effect, _, err := effectOf(ev)
	if err != nil {
		return nil, err
	}
	switch effect {
	case events.Removes:
		return nil, nil
	case events.Changes:
		return nil, rejected(ev, "volatile objects are put whole")
	}
	created := ev.Sequence
	if before != nil && before.UID == ev.UID {
		created = before.Created
	}
	return NewEntry(ev.Object, ev.UID, created, ev.Sequence, ev.Data), nil
}

// UnknownTypeError says that the log holds an event whose type this program does
// not know and may not skip.
type UnknownTypeError struct {
	Sequence uint64
	Type     string
	Object   events.Ref
}

func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("sequence %d: this version of reprise does not know the event type %q (of %s), and the event may not be skipped; upgrade reprise to the version that wrote it", e.Sequence, e.Type, e.Object)
}

// Unwrap makes it an events.ErrNewerLog.
func (e *UnknownTypeError) Unwrap() error { return events.ErrNewerLog }

// RejectedError says that an event breaks a rule of the fold: it does not fit
// the object, or its writer may not say it.
type RejectedError struct {
	Sequence uint64
	Type     string
	Object   events.Ref
	Reason   string
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("sequence %d: %s on %s cannot be folded: %s", e.Sequence, e.Type, e.Object, e.Reason)
}

func rejected(ev *events.Event, format string, args ...any) error {
	return &RejectedError{ev.Sequence, ev.Type, ev.Object, fmt.Sprintf(format, args...)}
}

func existsAlready(ev *events.Event, before *Entry) error {
	return rejected(ev, "it exists already, since sequence %d", before.Sequence)
}

func notThere(ev *events.Event) error { return rejected(ev, "there is no such object") }

func sameUID(ev *events.Event, before *Entry) error {
	if before.UID == ev.UID {
		return nil
	}
	return rejected(ev, "it speaks of the object with uid %q, but the one of that name has %q", ev.UID, before.UID)
}

func doesNotApply(ev *events.Event, err error) error {
	return rejected(ev, "its patch does not apply: %v", err)
}

// GapError says that events are missing between what is folded and what came.
type GapError struct {
	Folded, Next uint64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("the log jumps from sequence %d to %d: events are missing between", e.Folded, e.Next)
}

// FoldVersion is raised when the same log folds to another state than before. A
// stored projection of another version is rebuilt.
const FoldVersion = 1
