package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Begin lets an empty projection begin in the middle of a log: with the objects as
// they were once the event at a sequence was folded, which had this chain. It tells
// nothing of what was before. If it fails the projection is of no use.
func (s *Store) Begin(sequence uint64, chain [32]byte, objects iter.Seq2[*projections.Entry, error]) error {
	if s.at.sequence != 0 {
		return fmt.Errorf("the projection in %s is not empty: it has events up to %d", s.dir, s.at.sequence)
	}
	b := s.db.NewBatch()
	defer func() { b.Close() }()
	for e, err := range objects {
		if err != nil {
			return err
		}
		st := step{kind: stepFrame, created: e.Created, version: e.Version, uid: e.UID, frame: e.Raw}
		err := errors.Join(
			b.Set(refKey(objectKey, e.Ref), nil, nil),
			b.Set(lifeOf(e.Ref, e.Created), nil, nil),
			b.Set(uidAt(e.UID), appendRef(nil, e.Ref), nil),
			b.Set(historyAt(e.Ref, e.Sequence), st.encode(), nil))
		if err == nil && b.Len() > 1<<20 {
			err = s.apply(b)
			b.Close()
			b = s.db.NewBatch()
		}
		if err != nil {
			return err
		}
	}
	at := cursor{sequence, chain}
	err := errors.Join(
		b.Set([]byte{beginKey}, binary.BigEndian.AppendUint64(nil, sequence), nil),
		b.Set([]byte{cursorKey}, at.encode(), nil),
		s.apply(b))
	if err != nil {
		return err
	}
	s.at, s.begin = at, sequence
	s.folded.Store(sequence)
	return nil
}

// readBegin returns the sequence that Begin was given, 0 for a projection that
// begins with the log.
func readBegin(r pebble.Reader) (uint64, error) {
	value, closer, err := r.Get([]byte{beginKey})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(value) != 8 {
		return 0, errValue
	}
	return binary.BigEndian.Uint64(value), nil
}

// begun refuses to tell how things were before the projection begins.
func (s *Store) begun(sequence uint64) error {
	if sequence < s.begin {
		return fmt.Errorf("what was at sequence %d is not known here: this history begins with event %d: %w", sequence, s.begin+1, events.ErrNotFound)
	}
	return nil
}
