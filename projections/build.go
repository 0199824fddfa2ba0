package projections

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"github.com/reprise-run/reprise/events"
)

// frameEvery is how many versions of an object have one that the durable history
// keeps whole: each whose number it divides.
const frameEvery = 16

// Outcome is what an event made of its object, as far as a durable projection must
// know.
type Outcome struct {
	Kind OutcomeKind
	// Created is the sequence of the object's first event, and Version the number
	// of this one among its events.
	Created, Version uint64
	// Whole is the object after the event, for a change whose Version frameEvery
	// divides.
	Whole []byte
}

// OutcomeKind says what became of an object.
type OutcomeKind uint8

// An event that the fold passed over was skipped.
const (
	Skipped OutcomeKind = iota
	WasCreated
	WasChanged
	WasRemoved
)

// Outcomes says what the events of one Fold have come to, given what it said that
// they changed.
func Outcomes(batch []events.Event, changes []Change) []Outcome {
	all := make([]Outcome, len(batch))
	for i := range batch {
		for len(changes) > 0 && changes[0].Event.Sequence < batch[i].Sequence {
			changes = changes[1:]
		}
		if len(changes) > 0 && changes[0].Event.Sequence == batch[i].Sequence {
			all[i] = changes[0].outcome()
		}
	}
	return all
}

func (c *Change) outcome() Outcome {
	switch {
	case c.After == nil && c.Before == nil:
		return Outcome{}
	case c.After == nil:
		return Outcome{Kind: WasRemoved, Created: c.Before.Created, Version: c.Before.Version + 1}
	case c.Before == nil:
		return Outcome{Kind: WasCreated, Created: c.After.Created, Version: c.After.Version}
	}
	o := Outcome{Kind: WasChanged, Created: c.After.Created, Version: c.After.Version}
	if o.Version%frameEvery == 0 {
		o.Whole = c.After.Raw
	}
	return o
}

// Builder folds a long log to the same State as State.Fold does, for less: nobody
// sees what lies between, so each object is changed in its place, and filed when all
// is folded.
type Builder struct {
	objects  map[events.Ref]*draft
	sequence uint64
	spare    [][]byte // where objects lay that are gone
	ops      []events.Op
	err      error
}

// draft is an object that is being changed.
type draft struct {
	Entry
	// shared says that others see Raw, which must stay as it is.
	shared bool
}

// NewBuilder begins with the objects that were there at a sequence.
func NewBuilder(objects []*Entry, sequence uint64) *Builder {
	b := &Builder{objects: make(map[events.Ref]*draft, len(objects)), sequence: sequence}
	for _, e := range objects {
		d := &draft{shared: true}
		d.Ref, d.UID, d.Created, d.Sequence, d.Version, d.Raw = e.Ref, e.UID, e.Created, e.Sequence, e.Version, e.Raw
		b.objects[e.Ref] = d
	}
	return b
}

// Sequence is that of the last event folded.
func (b *Builder) Sequence() uint64 { return b.sequence }

// Fold is State.Fold, except that after an error the Builder is of no more use, and
// that a batch must follow what is folded.
func (b *Builder) Fold(batch []events.Event) ([]Outcome, error) {
	if b.err != nil {
		return nil, b.err
	}
	outcomes := make([]Outcome, len(batch))
	for i := range batch {
		ev := &batch[i]
		if ev.Sequence != b.sequence+1 {
			b.err = &GapError{Folded: b.sequence, Next: ev.Sequence}
			return nil, b.err
		}
		if outcomes[i], b.err = b.fold(ev); b.err != nil {
			return nil, b.err
		}
		b.sequence = ev.Sequence
	}
	return outcomes, nil
}

func (b *Builder) fold(ev *events.Event) (Outcome, error) {
	effect, ops, err := appendEffect(b.ops[:0], ev)
	if err != nil {
		if unknown := (*UnknownTypeError)(nil); errors.As(err, &unknown) && ev.Optional {
			return Outcome{}, nil
		}
		return Outcome{}, err
	}
	b.ops = ops[:0]
	d := b.objects[ev.Object]
	switch effect {
	case events.Creates:
		if d != nil {
			return Outcome{}, existsAlready(ev, &d.Entry)
		}
		d = &draft{shared: true}
		d.Ref, d.UID, d.Created, d.Sequence, d.Version, d.Raw = ev.Object, ev.UID, ev.Sequence, ev.Sequence, 1, ev.Data
		if d.UID == "" {
			d.UID = plainString(events.Lookup(d.Raw, "metadata", "uid"))
		}
		b.objects[ev.Object] = d
		return Outcome{Kind: WasCreated, Created: d.Created, Version: d.Version}, nil
	case events.Puts:
		return Outcome{}, errors.New("objects that are put whole have no long history to be built from")
	}
	if d == nil {
		return Outcome{}, notThere(ev)
	}
	if err := sameUID(ev, &d.Entry); err != nil {
		return Outcome{}, err
	}
	if effect == events.Removes {
		delete(b.objects, ev.Object)
		if !d.shared && len(b.spare) < spares {
			b.spare = append(b.spare, d.Raw)
		}
		return Outcome{Kind: WasRemoved, Created: d.Created, Version: d.Version + 1}, nil
	}
	return b.change(d, ev, ops)
}

// spares is how many pieces of memory are kept for objects to come.
const spares = 1024

func (b *Builder) change(d *draft, ev *events.Event, ops []events.Op) (Outcome, error) {
	if d.shared {
		d.Raw, d.shared = append(b.space(len(d.Raw)), d.Raw...), false
	}
	var err error
	if d.Raw, err = events.ApplyInPlace(d.Raw, &d.outline, ops); err != nil {
		return Outcome{}, doesNotApply(ev, err)
	}
	d.Sequence = ev.Sequence
	d.Version++
	o := Outcome{Kind: WasChanged, Created: d.Created, Version: d.Version}
	if d.Version%frameEvery == 0 {
		o.Whole = bytes.Clone(d.Raw)
	}
	return o, nil
}

// space is empty memory for an object of a size, and for what it grows by.
func (b *Builder) space(size int) []byte {
	if n := len(b.spare); n > 0 {
		raw := b.spare[n-1]
		b.spare = b.spare[:n-1]
		if cap(raw) >= size {
			return raw[:0]
		}
	}
	return make([]byte, 0, size+size/4+256)
}

// State returns what was folded, and takes it from the Builder, which is of no more
// use.
func (b *Builder) State() *State {
	s := NewState()
	for _, ref := range slices.SortedFunc(maps.Keys(b.objects), events.Ref.Compare) {
		d := b.objects[ref]
		if !d.shared {
			d.Raw = bytes.Clone(d.Raw) // without what it might have grown by
		}
		d.link()
		s.index.put(&d.Entry)
	}
	s.sequence = b.sequence
	b.objects = nil
	return s
}
