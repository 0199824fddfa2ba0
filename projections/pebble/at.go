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

// thread gathers the steps of an object's history, in order, into what it was
// after the last of them.
type thread struct {
	whole   []byte // nil while there is no object
	patches [][]byte
	newest  step
	at      uint64
}

// add takes a step. It keeps none of its bytes.
func (t *thread) add(sequence uint64, st step) {
	switch st.kind {
	case stepSkipped:
		return
	case stepRemoved:
		*t = thread{}
		return
	case stepPatch:
		t.patches = append(t.patches, bytes.Clone(st.data))
	case stepWhole:
		t.whole, t.patches = bytes.Clone(st.data), nil
	case stepFrame:
		t.whole, t.patches = bytes.Clone(st.frame), nil
	}
	t.newest, t.at = step{created: st.created, version: st.version, uid: st.uid}, sequence
}

// object is what the thread has come to, nil for none.
func (t *thread) object(ref events.Ref) (*projections.Entry, error) {
	if t.at == 0 {
		return nil, nil
	}
	if t.whole == nil {
		return nil, fmt.Errorf("the history of %s has no beginning", ref)
	}
	raw := t.whole
	for _, patch := range t.patches {
		var err error
		if raw, err = events.Apply(raw, patch); err != nil {
			return nil, err
		}
	}
	e := projections.NewEntry(ref, t.newest.uid, t.newest.created, t.at, raw)
	e.Version = t.newest.version
	return e, nil
}

// At implements history.Reader.
func (s *Store) At(ref events.Ref, sequence uint64) (e *projections.Entry, err error) {
	prefix := refKey(historyKey, ref)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	return s.find(it, ref, sequence)
}

// find goes back from a sequence to the object's nearest version that is whole,
// and forward again.
func (s *Store) find(it *pebble.Iterator, ref events.Ref, sequence uint64) (*projections.Entry, error) {
	prefix := refKey(historyKey, ref)
	bound := after(prefix)
	if sequence < math.MaxUint64 {
		bound = binary.BigEndian.AppendUint64(bytes.Clone(prefix), sequence+1)
	}
	ok := it.SeekLT(bound)
	for ; ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Prev() {
		_, st, err := s.step(it)
		if err != nil {
			return nil, err
		}
		if st.kind == stepWhole || st.kind == stepFrame || st.kind == stepRemoved {
			break
		}
	}
	if !ok || !bytes.HasPrefix(it.Key(), prefix) {
		ok = it.SeekGE(prefix)
	}
	e, _, err := s.read(it, ok, ref, sequence)
	return e, err
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

// read follows an object's steps from where the iterator stands to the sequence,
// and says whether the iterator then stands at another step.
func (s *Store) read(it *pebble.Iterator, ok bool, ref events.Ref, sequence uint64) (*projections.Entry, bool, error) {
	prefix := refKey(historyKey, ref)
	var t thread
	for ; ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Next() {
		n, st, err := s.step(it)
		if err != nil {
			return nil, ok, err
		}
		if n > sequence {
			break
		}
		t.add(n, st)
	}
	if err := it.Error(); err != nil {
		return nil, false, err
	}
	e, err := t.object(ref)
	if err != nil {
		return nil, ok, s.damaged(prefix, err)
	}
	return e, ok, nil
}

// ListAt implements history.Reader.
func (s *Store) ListAt(ctx context.Context, group, resource, namespace string, sequence uint64) iter.Seq2[*projections.Entry, error] {
	prefix := resourcePrefix(historyKey, group, resource, namespace)
	return s.versions(ctx, prefix, prefix, sequence)
}

// ListFrom implements history.Reader.
func (s *Store) ListFrom(ctx context.Context, from events.Ref, namespace string, sequence uint64) iter.Seq2[*projections.Entry, error] {
	prefix := resourcePrefix(historyKey, from.Group, from.Resource, namespace)
	lower := refKey(historyKey, from)
	if bytes.Compare(lower, prefix) < 0 {
		lower = prefix
	}
	return s.versions(ctx, prefix, lower, sequence)
}

// StateAt implements history.Reader.
func (s *Store) StateAt(ctx context.Context, sequence uint64) (*projections.State, error) {
	if folded := s.Folded(); sequence > folded {
		return nil, fmt.Errorf("sequence %d has not come yet: the projection is at %d: %w", sequence, folded, events.ErrNotFound)
	}
	state := projections.NewState()
	for e, err := range s.versions(ctx, []byte{historyKey}, []byte{historyKey}, sequence) {
		if err != nil {
			return nil, err
		}
		state.Put(e)
	}
	state.StartAt(sequence)
	return state, nil
}

// versions yields the objects whose history keys have a prefix, and are not below
// lower, as they were.
func (s *Store) versions(ctx context.Context, prefix, lower []byte, sequence uint64) iter.Seq2[*projections.Entry, error] {
	return func(yield func(*projections.Entry, error) bool) {
		it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: after(prefix)})
		if err != nil {
			yield(nil, err)
			return
		}
		defer it.Close()
		for ok := it.First(); ok; {
			ref, _, err := parseHistory(it.Key())
			if err != nil {
				yield(nil, s.damaged(it.Key(), err))
				return
			}
			var e *projections.Entry
			if e, ok, err = s.read(it, ok, ref, sequence); err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if e != nil && !yield(e, nil) {
				return
			}
			// What is left of the object came later.
			if object := refKey(historyKey, ref); ok && bytes.HasPrefix(it.Key(), object) {
				ok = it.SeekGE(after(object))
			}
		}
		if err := it.Error(); err != nil {
			yield(nil, err)
		}
	}
}
