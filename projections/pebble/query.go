package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// Event implements history.Reader.
func (s *Store) Event(sequence uint64) (events.Event, error) {
	ev, err := s.envelope(sequence)
	if err != nil {
		return ev, err
	}
	return ev, s.fill(&ev)
}

// envelope is an event without its data.
func (s *Store) envelope(sequence uint64) (ev events.Event, err error) {
	key := eventAt(sequence)
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) && sequence > 0 && sequence <= s.begin {
		return ev, fmt.Errorf("event %d is not known here: this history begins with event %d: %w", sequence, s.begin+1, events.ErrNotFound)
	}
	if errors.Is(err, pebble.ErrNotFound) {
		return ev, fmt.Errorf("sequence %d: %w", sequence, events.ErrNotFound)
	}
	if err != nil {
		return ev, err
	}
	defer closer.Close()
	if ev, err = decodeEvent(sequence, value); err != nil {
		return ev, s.damaged(key, err)
	}
	return ev, nil
}

// fill puts the data into an event.
func (s *Store) fill(ev *events.Event) error {
	key := historyAt(ev.Object, ev.Sequence)
	value, closer, err := s.db.Get(key)
	if err != nil {
		return s.damaged(key, err)
	}
	defer closer.Close()
	st, err := decodeStep(value)
	if err != nil {
		return s.damaged(key, err)
	}
	ev.Data = bytes.Clone(st.data)
	return nil
}

// ObjectOf implements history.Reader.
func (s *Store) ObjectOf(uid string) (events.Ref, bool, error) {
	value, closer, err := s.db.Get(uidAt(uid))
	if errors.Is(err, pebble.ErrNotFound) {
		return events.Ref{}, false, nil
	}
	if err != nil {
		return events.Ref{}, false, err
	}
	defer closer.Close()
	ref, _, err := parseRef(value)
	return ref, err == nil, err
}

// SequenceAt implements history.Reader.
func (s *Store) SequenceAt(t time.Time) (uint64, error) {
	var failed error
	n := sort.Search(int(s.Folded()-s.begin), func(i int) bool {
		ev, err := s.envelope(s.begin + uint64(i) + 1)
		if err != nil {
			failed = err
			return true
		}
		return ev.Time.After(t)
	})
	if n == 0 {
		return 0, failed
	}
	return s.begin + uint64(n), failed
}

// Following implements history.Reader.
func (s *Store) Following(ctx context.Context, sequence uint64) iter.Seq2[events.Event, error] {
	prefix := binary.BigEndian.AppendUint64([]byte{causeKey}, sequence)
	return s.scan(ctx, prefix, prefix, after(prefix), history.Query{})
}

// Events implements history.Reader. An object's events come from its history,
// all others from the envelopes between the first and the last that may match.
func (s *Store) Events(ctx context.Context, q history.Query) iter.Seq2[events.Event, error] {
	fail := func(err error) iter.Seq2[events.Event, error] {
		return func(yield func(events.Event, error) bool) { yield(events.Event{}, err) }
	}
	if q.UID != "" && q.Object == (events.Ref{}) {
		ref, ok, err := s.ObjectOf(q.UID)
		if err != nil {
			return fail(err)
		}
		if !ok {
			return func(func(events.Event, error) bool) {}
		}
		q.Object = ref
	}
	first, last, err := s.bounds(q)
	if err != nil {
		return fail(err)
	}
	if first > last {
		return func(func(events.Event, error) bool) {}
	}
	prefix := []byte{eventKey}
	if q.Object != (events.Ref{}) {
		prefix = refKey(historyKey, q.Object)
	}
	lower := binary.BigEndian.AppendUint64(bytes.Clone(prefix), first)
	upper := after(prefix)
	if last < math.MaxUint64 {
		upper = binary.BigEndian.AppendUint64(bytes.Clone(prefix), last+1)
	}
	return s.scan(ctx, prefix, lower, upper, q)
}

// bounds turns the query's times into sequences.
func (s *Store) bounds(q history.Query) (first, last uint64, err error) {
	first, last = max(q.First, s.begin+1), q.Last
	if last == 0 {
		last = math.MaxUint64
	}
	if !q.Since.IsZero() {
		before, err := s.SequenceAt(q.Since.Add(-time.Millisecond))
		if err != nil {
			return 0, 0, err
		}
		first = max(first, before+1)
	}
	if !q.Until.IsZero() {
		until, err := s.SequenceAt(q.Until)
		if err != nil {
			return 0, 0, err
		}
		last = min(last, until)
	}
	return first, last, nil
}

// scan yields the events at the sequences that the keys between two bounds end
// in, as far as they match.
func (s *Store) scan(ctx context.Context, prefix, lower, upper []byte, q history.Query) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			yield(events.Event{}, err)
			return
		}
		defer it.Close()
		start, step := it.First, it.Next
		if q.Backward {
			start, step = it.Last, it.Prev
		}
		found := 0
		for ok := start(); ok && ctx.Err() == nil; ok = step() {
			ev, err := s.eventOf(it, prefix)
			if err == nil && !q.Matches(&ev) {
				continue
			}
			if err == nil && !q.Bare {
				err = s.fill(&ev)
			}
			if !yield(ev, err) || err != nil {
				return
			}
			if found++; found == q.Limit {
				return
			}
		}
		if err := errors.Join(it.Error(), ctx.Err()); err != nil {
			yield(events.Event{}, err)
		}
	}
}

// eventOf returns the envelope that an iterator's key is about.
func (s *Store) eventOf(it *pebble.Iterator, prefix []byte) (events.Event, error) {
	key := it.Key()
	if len(key) != len(prefix)+8 {
		return events.Event{}, s.damaged(key, errValue)
	}
	sequence := binary.BigEndian.Uint64(key[len(prefix):])
	if key[0] != eventKey {
		return s.envelope(sequence)
	}
	ev, err := decodeEvent(sequence, it.Value())
	if err != nil {
		return ev, s.damaged(key, err)
	}
	return ev, nil
}
