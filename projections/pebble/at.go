package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// damaged wraps what went wrong with a stored value.
func (s *Store) damaged(key []byte, err error) error {
	if !s.serving.Load() {
		return fmt.Errorf("damage at the %s: %w", describe(key), err) // It is rebuilt at once.
	}
	s.mark()
	return fmt.Errorf("the projection in %s is damaged at the %s: %w; restart the server, and it will be rebuilt from the log", s.dir, describe(key), err)
}

// thread gathers the steps of an object's history, from the newest back to the
// nearest version that is whole, and makes of them what the object was. It may be
// used again for another object.
type thread struct {
	bytes   []byte // the data of all steps
	whole   []byte // the version that the patches follow on, nil while there is none
	room    []byte // for that of the next object
	patches []part // the newest first
	ops     []events.Op
	newest  step
	at      uint64 // the newest step's sequence, 0 while there is none
}

// part is where in thread.bytes something lies.
type part struct{ from, to int }

func (t *thread) reset() {
	*t = thread{bytes: t.bytes[:0], room: t.room, patches: t.patches[:0], ops: t.ops[:0]}
}

// add takes the step before those that it has, and says whether the next one
// before matters. It keeps none of the step's bytes.
func (t *thread) add(sequence uint64, st step) (more bool) {
	if st.kind == stepSkipped {
		return true
	}
	if st.kind == stepRemoved {
		return false
	}
	if t.at == 0 {
		t.newest, t.at = step{created: st.created, version: st.version, uid: st.uid}, sequence
	}
	switch st.kind {
	case stepWhole:
		return t.begin(st.data)
	case stepFrame:
		return t.begin(st.frame)
	}
	from := len(t.bytes)
	t.bytes = append(t.bytes, st.data...)
	t.patches = append(t.patches, part{from, len(t.bytes)})
	return true
}

// begin takes the version that is whole, before which nothing matters.
func (t *thread) begin(whole []byte) (more bool) {
	t.whole = append(t.room[:0], whole...)
	t.room = t.whole
	return false
}

// object is what the thread has come to, nil for none.
func (t *thread) object(ref events.Ref) (*projections.Entry, error) {
	if t.at == 0 {
		return nil, nil
	}
	if t.whole == nil {
		return nil, fmt.Errorf("the history of %s has no beginning", ref)
	}
	for i := len(t.patches) - 1; i >= 0; i-- {
		var err error
		if t.ops, err = events.AppendOps(t.ops, t.bytes[t.patches[i].from:t.patches[i].to]); err != nil {
			return nil, err
		}
	}
	raw, err := events.ApplyOps(t.whole, t.ops)
	if err != nil {
		return nil, err
	}
	if len(t.ops) == 0 {
		raw = bytes.Clone(raw)
	}
	e := projections.NewEntry(ref, t.newest.uid, t.newest.created, t.at, raw)
	e.Version = t.newest.version
	return e, nil
}

// At implements history.Reader.
func (s *Store) At(ref events.Ref, sequence uint64) (e *projections.Entry, err error) {
	if err := s.begun(sequence); err != nil {
		return nil, err
	}
	prefix := refKey(historyKey, ref)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	return s.find(it, new(thread), ref, sequence)
}

// find goes back from a sequence to the object's nearest version that is whole.
func (s *Store) find(it *pebble.Iterator, t *thread, ref events.Ref, sequence uint64) (*projections.Entry, error) {
	t.reset()
	prefix := refKey(historyKey, ref)
	bound := after(prefix)
	if sequence < math.MaxUint64 {
		bound = binary.BigEndian.AppendUint64(bytes.Clone(prefix), sequence+1)
	}
	for ok := it.SeekLT(bound); ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Prev() {
		n, st, err := s.step(it)
		if err != nil {
			return nil, err
		}
		if !t.add(n, st) {
			break
		}
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	e, err := t.object(ref)
	if err != nil {
		return nil, s.damaged(prefix, err)
	}
	return e, nil
}

// step reads the step that an iterator stands at.
func (s *Store) step(it *pebble.Iterator) (sequence uint64, st step, err error) {
	key := it.Key()
	st, err = decodeStep(it.Value())
	if err == nil && len(key) < 8 {
		err = errValue
	}
	if err != nil {
		return 0, st, s.damaged(key, err)
	}
	return binary.BigEndian.Uint64(key[len(key)-8:]), st, nil
}

// ListAt implements history.Reader.
func (s *Store) ListAt(ctx context.Context, group, resource, namespace string, sequence uint64) iter.Seq2[*projections.Entry, error] {
	prefix := resourcePrefix(lifeKey, group, resource, namespace)
	return s.versions(ctx, prefix, prefix, sequence, 0)
}

// ListFrom implements history.Reader.
func (s *Store) ListFrom(ctx context.Context, from events.Ref, namespace string, sequence uint64, most int) iter.Seq2[*projections.Entry, error] {
	prefix, lower := lifetimesFrom(from, namespace)
	return s.versions(ctx, prefix, lower, sequence, most)
}

// CountFrom implements history.Reader.
func (s *Store) CountFrom(ctx context.Context, from events.Ref, namespace string, sequence uint64) (n int, err error) {
	prefix, lower := lifetimesFrom(from, namespace)
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: after(prefix)})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		var refs []events.Ref
		if refs, ok, err = s.alive(it, sequence, 1024); err != nil {
			return 0, err
		}
		n += len(refs)
	}
	return n, it.Error()
}

// lifetimesFrom is where the lifetimes of a resource lie, and those from an object on.
func lifetimesFrom(from events.Ref, namespace string) (prefix, lower []byte) {
	prefix = resourcePrefix(lifeKey, from.Group, from.Resource, namespace)
	if lower = refKey(lifeKey, from); bytes.Compare(lower, prefix) < 0 {
		lower = prefix
	}
	return prefix, lower
}

// StateAt implements history.Reader.
func (s *Store) StateAt(ctx context.Context, sequence uint64) (*projections.State, error) {
	if folded := s.Folded(); sequence > folded {
		return nil, fmt.Errorf("sequence %d has not come yet: the projection is at %d: %w", sequence, folded, events.ErrNotFound)
	}
	state := projections.NewState()
	for e, err := range s.versions(ctx, []byte{lifeKey}, []byte{lifeKey}, sequence, 0) {
		if err != nil {
			return nil, err
		}
		state.Put(e)
	}
	state.StartAt(sequence)
	return state, nil
}

// versions yields the objects whose lifetimes have keys with a prefix, and not
// below lower, as they were. It reads the histories of no others: many more may
// have lived before and since. It reads ahead on all processors, a few at first, and
// no further than the first most of them, if that is not 0.
func (s *Store) versions(ctx context.Context, prefix, lower []byte, sequence uint64, most int) iter.Seq2[*projections.Entry, error] {
	return func(yield func(*projections.Entry, error) bool) {
		if err := s.begun(sequence); err != nil {
			yield(nil, err)
			return
		}
		it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: after(prefix)})
		if err != nil {
			yield(nil, err)
			return
		}
		defer it.Close()
		if most == 0 {
			most = math.MaxInt
		}
		ok := it.First()
		for ahead := 32; ok && most > 0; ahead = min(2*ahead, 2048) {
			var refs []events.Ref
			if refs, ok, err = s.alive(it, sequence, min(ahead, most)); err != nil {
				yield(nil, err)
				return
			}
			most -= len(refs)
			entries, err := s.resolve(ctx, refs, sequence)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
		if err := it.Error(); err != nil {
			yield(nil, err)
		}
	}
}

// alive returns the next objects, n at most, that lived at a sequence, and says
// whether the iterator over lifetimes then stands at another.
func (s *Store) alive(it *pebble.Iterator, sequence uint64, n int) (refs []events.Ref, ok bool, err error) {
	for ok = true; ok && len(refs) < n; ok = it.Next() {
		key, value := it.Key(), it.Value()
		if len(key) < 9 || len(value) != 0 && len(value) != 8 {
			return nil, false, s.damaged(key, errValue)
		}
		if binary.BigEndian.Uint64(key[len(key)-8:]) > sequence {
			continue // It came later.
		}
		if len(value) == 8 && binary.BigEndian.Uint64(value) <= sequence {
			continue // It was gone.
		}
		ref, _, err := parseRef(key[1:])
		if err != nil {
			return nil, false, s.damaged(key, err)
		}
		refs = append(refs, ref)
	}
	return refs, ok, nil
}
