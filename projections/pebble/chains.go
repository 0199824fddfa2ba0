package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
)

// Chains yields the hash chain's links at events first to last, which must be
// folded: a proof.Chains.
func (s *Store) Chains(first, last uint64) iter.Seq2[[32]byte, error] {
	return func(yield func([32]byte, error) bool) {
		if err := s.chains(first, last, func(chain [32]byte) bool { return yield(chain, nil) }); err != nil {
			yield([32]byte{}, err)
		}
	}
}

func (s *Store) chains(first, last uint64, yield func([32]byte) bool) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: eventAt(first), UpperBound: eventAt(last + 1)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	next := first
	for ok := it.First(); ok; ok = it.Next() {
		value := it.Value()
		if key := it.Key(); len(key) != 9 || binary.BigEndian.Uint64(key[1:]) != next || len(value) < 32 {
			return fmt.Errorf("event %d: %w", next, errValue)
		}
		// The chain is the end of an envelope: see encodeEvent.
		if !yield([32]byte(value[len(value)-32:])) {
			return nil
		}
		next++
	}
	if err := it.Error(); err != nil {
		return err
	}
	if next <= last {
		return fmt.Errorf("event %d is not in the projection, which goes to %d", next, s.Folded())
	}
	return nil
}
