package pebble

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Load implements live.Store. If the objects turn out to be damaged it starts
// over with none.
func (s *Store) Load(ctx context.Context) (objects []*projections.Entry, at uint64, chain [32]byte, err error) {
	objects, err = s.objects(ctx)
	if err != nil && ctx.Err() == nil && !outside(err) {
		objects, err = nil, s.startOver(err)
	}
	s.serving.Store(err == nil)
	return objects, s.at.sequence, s.at.chain, err
}

// objects reads what there is now: which objects, and of each how its history
// leaves it.
func (s *Store) objects(ctx context.Context) ([]*projections.Entry, error) {
	refs, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	return s.resolve(ctx, refs, s.at.sequence)
}

// resolve reads objects, which are in order and were there, as of a sequence, on
// all processors.
func (s *Store) resolve(ctx context.Context, refs []events.Ref, sequence uint64) ([]*projections.Entry, error) {
	all := make([]*projections.Entry, len(refs))
	group, ctx := errgroup.WithContext(ctx)
	workers := min(runtime.GOMAXPROCS(0), 1+len(refs)/64)
	for w := range workers {
		from, to := len(refs)*w/workers, len(refs)*(w+1)/workers
		group.Go(func() error { return s.versionsOf(ctx, refs[from:to], sequence, all[from:to]) })
	}
	return all, group.Wait()
}

// current lists the objects that there are, in order.
func (s *Store) current(ctx context.Context) (refs []events.Ref, err error) {
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: []byte{objectKey}, UpperBound: []byte{objectKey + 1}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		ref, _, err := parseRef(it.Key()[1:])
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, it.Error()
}

// versionsOf reads the objects of refs, which are in order, into all.
func (s *Store) versionsOf(ctx context.Context, refs []events.Ref, sequence uint64, all []*projections.Entry) (err error) {
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: []byte{historyKey}, UpperBound: []byte{historyKey + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var t thread
	for i, ref := range refs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if all[i], err = s.find(it, &t, ref, sequence); err != nil {
			return err
		}
		if all[i] == nil {
			return s.damaged(refKey(historyKey, ref), fmt.Errorf("%s was there at sequence %d and has no history", ref, sequence))
		}
	}
	return nil
}
