package pebble

import (
	"bytes"
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reprise-run/reprise/events"
)

// Resources implements history.Reader.
func (s *Store) Resources(ctx context.Context) (found []events.Ref, err error) {
	err = s.leap(ctx, []byte{historyKey}, func(ref events.Ref) []byte {
		found = append(found, events.Ref{Group: ref.Group, Resource: ref.Resource})
		return after(resourcePrefix(historyKey, ref.Group, ref.Resource, ""))
	})
	return found, err
}

// Named implements history.Reader.
func (s *Store) Named(ctx context.Context, group, resource, name string) (found []events.Ref, err error) {
	of := resourcePrefix(historyKey, group, resource, "")
	err = s.leap(ctx, of, func(ref events.Ref) []byte {
		wanted := events.Ref{Group: group, Resource: resource, Namespace: ref.Namespace, Name: name}
		if ref.Compare(wanted) < 0 {
			return refKey(historyKey, wanted)
		}
		if ref == wanted {
			found = append(found, ref)
		}
		return after(append(append(bytes.Clone(of), ref.Namespace...), 0))
	})
	return found, err
}

// leap visits some of the history's keys that begin with a prefix: visit is told
// the object that a key is about, and says which key to go on from.
func (s *Store) leap(ctx context.Context, prefix []byte, visit func(events.Ref) []byte) (err error) {
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		ref, _, err := parseHistory(it.Key())
		if err != nil {
			return s.damaged(it.Key(), err)
		}
		next := visit(ref)
		if next == nil || bytes.Compare(next, it.Key()) <= 0 {
			break // Nothing can come after this.
		}
		if ok = it.SeekGE(next); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return it.Error()
}
