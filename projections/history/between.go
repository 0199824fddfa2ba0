package history

import (
	"context"
	"iter"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Range is two moments, and the objects to compare between them.
type Range struct {
	// From and To are the sequences right after which to look.
	From, To uint64
	// Object, UID, Resource and Namespace say which objects, as in a Query.
	Object    events.Ref
	UID       string
	Resource  string
	Namespace string
	// Labels selects objects by the labels that they have at either moment, in
	// kubectl's words. It may be empty.
	Labels string
	// Resume is where to go on: the Touched of the next difference, 0 for the
	// first.
	Resume uint64
}

// Difference is an object that is not at the second moment as it was at the
// first.
type Difference struct {
	Object events.Ref
	// Before and After are the versions' sequences, 0 for none.
	Before, After uint64
	// Another says that the object of that name is not the one that it was.
	Another bool
	// Changes say what is different, if it is there at both moments.
	Changes []Line
	// Events is how many there are of it in the range, Touched and Newest the
	// first and the last of them. Actor and User are who wrote the last.
	Events          int
	Touched, Newest uint64
	Actor           events.Actor
	User            string
}

// Fleeting says whether the object was there at neither moment: it came and went
// in between.
func (d *Difference) Fleeting() bool { return d.Before == 0 && d.After == 0 }

// Bookkeeping says whether all that changed tells a reader nothing.
func (d *Difference) Bookkeeping() bool {
	if d.Before == 0 || d.After == 0 || d.Another {
		return false
	}
	for _, l := range d.Changes {
		if !l.Bookkeeping {
			return false
		}
	}
	return true
}

// Between yields the objects that the events of a range are about, in the order
// in which they were first touched: those that differ, and those that came and
// went. It looks at what happened and at nothing else, so a small range costs
// little however much there is. Those that came back to what they were are left
// out.
func Between(ctx context.Context, r Reader, w Range) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		selector, err := labels.Parse(w.Labels)
		if err != nil {
			yield(Difference{}, err)
			return
		}
		touched := Query{
			Object: w.Object, UID: w.UID, Resource: w.Resource, Namespace: w.Namespace, Bare: true,
			First: max(w.From+1, w.Resume), Last: w.To,
		}
		if touched.First > touched.Last {
			return
		}
		seen := map[events.Ref]bool{}
		for e, err := range r.Events(ctx, touched) {
			if err != nil {
				yield(Difference{}, err)
				return
			}
			if seen[e.Object] {
				continue
			}
			seen[e.Object] = true
			d, different, err := w.compare(ctx, r, e, selector)
			if err == nil && !different {
				continue
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// compare looks at the object of an event in the range. If the event is not its
// first there, its difference was told before.
func (w Range) compare(ctx context.Context, r Reader, e events.Event, selector labels.Selector) (Difference, bool, error) {
	d := Difference{Object: e.Object, Touched: e.Sequence}
	all := Query{Object: e.Object, UID: w.UID, First: w.From + 1, Last: w.To, Bare: true}
	for of, err := range r.Events(ctx, all) {
		if err != nil || of.Sequence < e.Sequence {
			return d, false, err
		}
		d.Events++
		d.Newest, d.Actor, d.User = of.Sequence, of.Actor, of.User
	}
	before, err := w.at(r, e.Object, w.From)
	if err != nil {
		return d, false, err
	}
	after, err := w.at(r, e.Object, w.To)
	if err != nil {
		return d, false, err
	}
	if !selector.Empty() && !selected(before, selector) && !selected(after, selector) {
		return d, false, nil
	}
	if before != nil {
		d.Before = before.Sequence
	}
	if after != nil {
		d.After = after.Sequence
	}
	if before == nil || after == nil {
		return d, true, nil
	}
	d.Another = before.UID != after.UID
	d.Changes, err = Compare(before.Raw, after.Raw)
	return d, d.Another || len(d.Changes) > 0, err
}

// at is the object as it was, nil if that is not the one that is asked about.
func (w Range) at(r Reader, ref events.Ref, sequence uint64) (*projections.Entry, error) {
	e, err := r.At(ref, sequence)
	if e != nil && w.UID != "" && e.UID != w.UID {
		return nil, err
	}
	return e, err
}

func selected(e *projections.Entry, selector labels.Selector) bool {
	return e != nil && selector.Matches(labels.Set(e.Meta().Labels))
}
