package pebble

import (
	"cmp"
	"encoding/binary"
	"slices"

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
type writer struct {
	key, value []byte
	order      []int
}

// write puts the keys of events and of what came of them into a batch. Those of a kind go
// in one after the other, and as they ascend: Pebble then finds the place of each behind
// the one before it, and not far.
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
		w.key = appendCauseAt(w.key[:0], batch[i].Cause, batch[i].Sequence)
		if err := b.Set(w.key, nil, nil); err != nil {
			return err
		}
	}
	w.sort(batch)
	for _, put := range [...]func(*writer, *pebble.Batch, *events.Event, *projections.Outcome) error{
		(*writer).step, (*writer).life, (*writer).object, (*writer).uid,
	} {
		for _, i := range w.order {
			if err := put(w, b, &batch[i], &outcomes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sort orders the events of a batch as their objects' keys ascend.
func (w *writer) sort(batch []events.Event) {
	w.order = w.order[:0]
	for i := range batch {
		w.order = append(w.order, i)
	}
	slices.SortFunc(w.order, func(i, j int) int {
		return cmp.Or(batch[i].Object.Compare(batch[j].Object), i-j)
	})
}

// step puts in an event as one of its object's history.
func (w *writer) step(b *pebble.Batch, ev *events.Event, o *projections.Outcome) error {
	w.key = binary.BigEndian.AppendUint64(appendRef(append(w.key[:0], historyKey), ev.Object), ev.Sequence)
	st := stepOf(ev, o)
	w.value = st.append(w.value[:0])
	return b.Set(w.key, w.value, nil)
}

// life puts in the beginning of an object's lifetime, or its end.
func (w *writer) life(b *pebble.Batch, ev *events.Event, o *projections.Outcome) error {
	if o.Kind != projections.WasCreated && o.Kind != projections.WasRemoved {
		return nil
	}
	w.key = binary.BigEndian.AppendUint64(appendRef(append(w.key[:0], lifeKey), ev.Object), o.Created)
	w.value = w.value[:0]
	if o.Kind == projections.WasRemoved {
		w.value = binary.BigEndian.AppendUint64(w.value, ev.Sequence)
	}
	return b.Set(w.key, w.value, nil)
}

// object puts in that there is an object, or takes that out.
func (w *writer) object(b *pebble.Batch, ev *events.Event, o *projections.Outcome) error {
	w.key = appendRef(append(w.key[:0], objectKey), ev.Object)
	switch o.Kind {
	case projections.WasCreated:
		return b.Set(w.key, nil, nil)
	case projections.WasRemoved:
		return b.Delete(w.key, nil)
	}
	return nil
}

// uid puts in which object has the uid of one that was created.
func (w *writer) uid(b *pebble.Batch, ev *events.Event, o *projections.Outcome) error {
	if o.Kind != projections.WasCreated {
		return nil
	}
	w.key = append(append(w.key[:0], uidKey), ev.UID...)
	w.value = appendRef(w.value[:0], ev.Object)
	return b.Set(w.key, w.value, nil)
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
