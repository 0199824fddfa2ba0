package history_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
)

// recorded answers from the events of a short log, by folding them again for each
// question. The first of them need not be the first of the log.
type recorded struct{ events []events.Event }

func (r recorded) Folded() uint64 {
	if len(r.events) == 0 {
		return 0
	}
	return r.events[len(r.events)-1].Sequence
}

func (r recorded) Event(sequence uint64) (events.Event, error) {
	for _, e := range r.events {
		if e.Sequence == sequence {
			return e, nil
		}
	}
	return events.Event{}, fmt.Errorf("sequence %d: %w", sequence, events.ErrNotFound)
}

func (r recorded) Events(_ context.Context, q history.Query) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		all := slices.Clone(r.events)
		if q.Backward {
			slices.Reverse(all)
		}
		found := 0
		for i := range all {
			if !q.Matches(&all[i]) {
				continue
			}
			if found++; !yield(all[i], nil) || found == q.Limit {
				return
			}
		}
	}
}

func (r recorded) Following(_ context.Context, sequence uint64) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		for _, e := range r.events {
			if e.Cause == sequence && !yield(e, nil) {
				return
			}
		}
	}
}

func (r recorded) ObjectOf(uid string) (events.Ref, bool, error) {
	for _, e := range r.events {
		if e.UID == uid {
			return e.Object, true, nil
		}
	}
	return events.Ref{}, false, nil
}

func (r recorded) Resources(context.Context) (found []events.Ref, err error) {
	for _, e := range r.events {
		found = append(found, events.Ref{Group: e.Object.Group, Resource: e.Object.Resource})
	}
	return unique(found), nil
}

func (r recorded) Named(_ context.Context, group, resource, name string) (found []events.Ref, err error) {
	for _, e := range r.events {
		if o := e.Object; o.Group == group && o.Resource == resource && o.Name == name {
			found = append(found, o)
		}
	}
	return unique(found), nil
}

func unique(refs []events.Ref) []events.Ref {
	slices.SortFunc(refs, events.Ref.Compare)
	return slices.Compact(refs)
}

func (r recorded) SequenceAt(t time.Time) (uint64, error) {
	n := sort.Search(len(r.events), func(i int) bool { return r.events[i].Time.After(t) })
	if n == 0 {
		return 0, nil
	}
	return r.events[n-1].Sequence, nil
}

func (r recorded) At(ref events.Ref, sequence uint64) (*projections.Entry, error) {
	s, err := r.StateAt(context.Background(), sequence)
	if err != nil {
		return nil, err
	}
	return s.View().Get(ref), nil
}

func (r recorded) ListAt(ctx context.Context, group, resource, namespace string, sequence uint64) iter.Seq2[*projections.Entry, error] {
	return r.ListFrom(ctx, events.Ref{Group: group, Resource: resource}, namespace, sequence, 0)
}

func (r recorded) CountFrom(ctx context.Context, from events.Ref, namespace string, sequence uint64) (n int, err error) {
	for _, err := range r.ListFrom(ctx, from, namespace, sequence, 0) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (r recorded) ListFrom(ctx context.Context, from events.Ref, namespace string, sequence uint64, most int) iter.Seq2[*projections.Entry, error] {
	return func(yield func(*projections.Entry, error) bool) {
		s, err := r.StateAt(ctx, sequence)
		if err != nil {
			yield(nil, err)
			return
		}
		n := 0
		for e := range s.View().List(from.Group, from.Resource, namespace) {
			if e.Ref.Compare(from) < 0 {
				continue
			}
			if n++; !yield(e, nil) || n == most {
				return
			}
		}
	}
}

func (r recorded) StateAt(_ context.Context, sequence uint64) (*projections.State, error) {
	s := projections.NewState()
	for i := range r.events {
		if r.events[i].Sequence <= sequence {
			if _, err := s.Fold(r.events[i : i+1]); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}
