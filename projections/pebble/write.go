package pebble

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// size is about what the keys of a batch take.
func size(batch []events.Event, outcomes []projections.Outcome) int {
	n := 64
	for i := range batch {
		n += 512 + len(batch[i].Data) + len(batch[i].Note) + len(batch[i].Asked) + len(outcomes[i].Whole)
	}
	return n
}

// writer puts keys into batches, making each in the same memory.
type writer struct{ key, value []byte }

// write puts the keys of events and of what came of them into a batch. Those of a
// kind that ascends go in one after the other: Pebble then finds the place of each
// right behind the one before it.
func (w *writer) write(b *pebble.Batch, batch []events.Event, outcomes []projections.Outcome) error {
	for i := range batch {
		ev := &batch[i]
		w.key = appendEventAt(w.key[:0], ev.Sequence)
		w.value = appendEvent(w.value[:0], ev)
		if err := b.Set(w.key, w.value, nil); err != nil {
			return err
		}
	}
	for i := range batch {
		if batch[i].Cause == 0 {
			continue
		}
		if err := b.Set(causeAt(batch[i].Cause, batch[i].Sequence), nil, nil); err != nil {
			return err
		}
	}
	for i := range batch {
		if err := w.outcome(b, &batch[i], &outcomes[i]); err != nil {
			return err
		}
	}
	return nil
}

// outcome puts in the keys of an object.
func (w *writer) outcome(b *pebble.Batch, ev *events.Event, o *projections.Outcome) error {
	var err error
	switch o.Kind {
	case projections.WasCreated:
		err = errors.Join(
			b.Set(refKey(objectKey, ev.Object), nil, nil),
			b.Set(lifeOf(ev.Object, ev.Sequence), nil, nil),
			b.Set(uidAt(ev.UID), appendRef(nil, ev.Object), nil))
	case projections.WasRemoved:
		err = errors.Join(
			b.Delete(refKey(objectKey, ev.Object), nil),
			b.Set(lifeOf(ev.Object, o.Created), binary.BigEndian.AppendUint64(nil, ev.Sequence), nil))
	}
	w.key = binary.BigEndian.AppendUint64(appendRef(append(w.key[:0], historyKey), ev.Object), ev.Sequence)
	st := stepOf(ev, o)
	w.value = st.append(w.value[:0])
	return errors.Join(err, b.Set(w.key, w.value, nil))
}

// stepOf is what an event is in the history of its object.
func stepOf(ev *events.Event, o *projections.Outcome) step {
	st := step{kind: stepPatch, created: o.Created, version: o.Version, uid: ev.UID, data: ev.Data}
	switch o.Kind {
	case projections.Skipped:
		st.kind = stepSkipped
	case projections.WasCreated:
		st.kind = stepWhole
	case projections.WasRemoved:
		st.kind = stepRemoved
	case projections.WasChanged:
		if o.Whole != nil {
			st.kind, st.frame = stepFrame, o.Whole
		}
	}
	return st
}
