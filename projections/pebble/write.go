package pebble

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// size is about what the keys of a batch take.
func size(batch []events.Event, changes []projections.Change) int {
	n := 64
	for i := range batch {
		n += 512 + len(batch[i].Data) + len(batch[i].Note) + len(batch[i].Asked)
	}
	for i := range changes {
		if framed(changes[i]) {
			n += len(changes[i].After.Raw)
		}
	}
	return n
}

// framed says whether the step of a change has a keyframe.
func framed(c projections.Change) bool {
	return c.Before != nil && c.After != nil && c.After.Version%frameEvery == 0
}

// writer puts keys into batches, making each in the same memory.
type writer struct{ key, value []byte }

// write puts the keys of events and of what they changed into a batch. Those of a
// kind that ascends go in one after the other: Pebble then finds the place of each
// right behind the one before it.
func (w *writer) write(b *pebble.Batch, batch []events.Event, changes []projections.Change) error {
	for i := range batch {
		ev := &batch[i]
		w.key = binary.BigEndian.AppendUint64(append(w.key[:0], eventKey), ev.Sequence)
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
		ev := &batch[i]
		var change projections.Change
		for len(changes) > 0 && changes[0].Event.Sequence <= ev.Sequence {
			change, changes = changes[0], changes[1:]
		}
		if err := w.change(b, ev, change); err != nil {
			return err
		}
	}
	return nil
}

// change puts in the keys of an object. A change of nothing is that of an event
// that the fold skipped.
func (w *writer) change(b *pebble.Batch, ev *events.Event, c projections.Change) error {
	st := step{kind: stepPatch, uid: ev.UID, data: ev.Data}
	var err error
	switch {
	case c.After == nil && c.Before == nil:
		st.kind = stepSkipped
	case c.After == nil:
		st.kind, st.created, st.version = stepRemoved, c.Before.Created, c.Before.Version+1
		err = errors.Join(
			b.Delete(refKey(objectKey, ev.Object), nil),
			b.Set(lifeOf(ev.Object, c.Before.Created), binary.BigEndian.AppendUint64(nil, ev.Sequence), nil))
	default:
		st.created, st.version = c.After.Created, c.After.Version
		if c.Before == nil {
			st.kind = stepWhole
			err = errors.Join(
				b.Set(refKey(objectKey, ev.Object), nil, nil),
				b.Set(lifeOf(ev.Object, ev.Sequence), nil, nil),
				b.Set(uidAt(ev.UID), appendRef(nil, ev.Object), nil))
		} else if framed(c) {
			st.kind, st.frame = stepFrame, c.After.Raw
		}
	}
	w.key = binary.BigEndian.AppendUint64(appendRef(append(w.key[:0], historyKey), ev.Object), ev.Sequence)
	w.value = st.append(w.value[:0])
	return errors.Join(err, b.Set(w.key, w.value, nil))
}
