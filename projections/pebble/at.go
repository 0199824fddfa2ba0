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
	return func(yield func(*projections.Entry, error) bool) {
		prefix := resourcePrefix(historyKey, group, resource, namespace)
		it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
		if err != nil {
			yield(nil, err)
			return
		}
		defer it.Close()
		for ok := it.First(); ok; {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			ref, _, err := parseHistory(it.Key())
			if err != nil {
				yield(nil, s.damaged(it.Key(), err))
				return
			}
			object := refKey(historyKey, ref)
			e, err := s.version(it, ref, object, sequence)
			if err != nil {
				yield(nil, err)
				return
			}
			if e != nil && !yield(e, nil) {
				return
			}
			ok = it.SeekGE(after(object))
		}
		if err := it.Error(); err != nil {
			yield(nil, err)
		}
	}
}
