package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// damaged wraps what went wrong with a stored value.
func (s *Store) damaged(key []byte, err error) error {
	s.mark()
	return fmt.Errorf("the projection in %s is damaged at the %s: %w; restart the server, and it will be rebuilt from the log", s.dir, describe(key), err)
}

// At implements history.Reader.
func (s *Store) At(ref events.Ref, sequence uint64) (e *projections.Entry, err error) {
	prefix := refKey(historyKey, ref)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	return s.version(it, ref, prefix, sequence)
}

// version rebuilds the object whose history has the prefix as it was at a
// sequence: from the nearest whole object at or before, and the patches since.
// It returns nil if there was none, and leaves the iterator anywhere.
func (s *Store) version(it *pebble.Iterator, ref events.Ref, prefix []byte, sequence uint64) (*projections.Entry, error) {
	var patches [][]byte
	var newest step
	var at uint64
	bound := after(prefix)
	if sequence < math.MaxUint64 {
		bound = binary.BigEndian.AppendUint64(slices.Clone(prefix), sequence+1)
	}
	for ok := it.SeekLT(bound); ok && bytes.HasPrefix(it.Key(), prefix); ok = it.Prev() {
		st, err := decodeStep(it.Value())
		if err != nil {
			return nil, s.damaged(it.Key(), err)
		}
		if st.kind == stepSkipped {
			continue
		}
		if at == 0 {
			at = binary.BigEndian.Uint64(it.Key()[len(prefix):])
			newest = step{created: st.created, version: st.version, uid: st.uid}
		}
		switch st.kind {
		case stepRemoved:
			return nil, nil
		case stepPatch:
			patches = append(patches, bytes.Clone(st.data))
			continue
		case stepWhole:
			st.frame = st.data
		}
		raw, err := patched(st.frame, patches)
		if err != nil {
			return nil, s.damaged(it.Key(), err)
		}
		e := projections.NewEntry(ref, newest.uid, newest.created, at, raw)
		e.Version = newest.version
		return e, nil
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	if at != 0 {
		return nil, s.damaged(prefix, fmt.Errorf("the history of %s has no beginning", ref))
	}
	return nil, nil
}

// patched applies patches, the last of which comes first.
func patched(whole []byte, patches [][]byte) ([]byte, error) {
	raw := bytes.Clone(whole)
	for _, patch := range slices.Backward(patches) {
		var err error
		if raw, err = events.Apply(raw, patch); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

// ListAt implements history.Reader.
func (s *Store) ListAt(ctx context.Context, group, resource, namespace string, sequence uint64) iter.Seq2[*projections.Entry, error] {
	return s.versions(ctx, resourcePrefix(historyKey, group, resource, namespace), sequence)
}

// StateAt implements history.Reader.
func (s *Store) StateAt(ctx context.Context, sequence uint64) (*projections.State, error) {
	if folded := s.Folded(); sequence > folded {
		return nil, fmt.Errorf("sequence %d has not come yet: the projection is at %d: %w", sequence, folded, events.ErrNotFound)
	}
	state := projections.NewState()
	for e, err := range s.versions(ctx, []byte{historyKey}, sequence) {
		if err != nil {
			return nil, err
		}
		state.Put(e)
	}
	state.StartAt(sequence)
	return state, nil
}

// versions yields the objects whose history keys have a prefix as they were.
func (s *Store) versions(ctx context.Context, prefix []byte, sequence uint64) iter.Seq2[*projections.Entry, error] {
	return func(yield func(*projections.Entry, error) bool) {
		it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
		if err != nil {
			yield(nil, err)
			return
		}
		defer it.Close()
		for ok := it.First(); ok; {
			ref, e, err := s.versionHere(ctx, it, sequence)
			if err != nil {
				yield(nil, err)
				return
			}
			if e != nil && !yield(e, nil) {
				return
			}
			ok = it.SeekGE(after(refKey(historyKey, ref)))
		}
		if err := it.Error(); err != nil {
			yield(nil, err)
		}
	}
}

// versionHere is version of the object that an iterator stands at.
func (s *Store) versionHere(ctx context.Context, it *pebble.Iterator, sequence uint64) (events.Ref, *projections.Entry, error) {
	ref, _, err := parseHistory(it.Key())
	if err != nil {
		return ref, nil, s.damaged(it.Key(), err)
	}
	if err := ctx.Err(); err != nil {
		return ref, nil, err
	}
	e, err := s.version(it, ref, refKey(historyKey, ref), sequence)
	return ref, e, err
}
