package projections

import (
	"sync/atomic"

	"github.com/reprise-run/reprise/events"
)

// Traced is a Reader that can tell what has changed since an earlier view of the same
// State, without looking at all there is.
type Traced interface {
	// Trace is the place of the view, nil if it has none.
	Trace() *Trace
}

// Trace is a place in the order in which the pods and nodes of one State have changed.
// Each stretch of that order hangs on the one before it. Nobody holds them but the views,
// and who remembers one: what came before the oldest that is held is garbage. Now and then
// a trace begins anew, so that who remembers one for long does not hold all that comes
// after it.
type Trace struct {
	within *stretch
	passed int // how many of its changes led here
}

// stretch is some changes that followed each other, which the one who folds adds. The
// objects up to a place are there for who has that place, and all when there is a next.
type stretch struct {
	objects [63]events.Ref // with the rest it is 4 kB
	number  int
	next    atomic.Pointer[stretch]
}

// reach is how many stretches hang together: 129,024 changes.
const reach = 1 << 11

// To names the pods and nodes that may be other versions at a later place: all others are
// the same ones. It says false if that place is not among the next, at most so many.
func (t *Trace) To(later *Trace, most int) (changed []events.Ref, ok bool) {
	if t == nil || later == nil {
		return nil, false
	}
	within, passed := t.within, t.passed
	for within != later.within {
		next := within.next.Load()
		if next == nil {
			return nil, false
		}
		if changed = append(changed, within.objects[passed:]...); len(changed) > most {
			return nil, false
		}
		within, passed = next, 0
	}
	if passed > later.passed || len(changed)+later.passed-passed > most {
		return nil, false
	}
	return append(changed, within.objects[passed:later.passed]...), true
}

// leave returns the place after a change.
func (t Trace) leave(object events.Ref) Trace {
	if !isPod(object) && !isNode(object) {
		return t
	}
	if t.passed == len(t.within.objects) {
		t = t.after()
	}
	t.within.objects[t.passed] = object
	t.passed++
	return t
}

// after is the same place, in the next stretch.
func (t Trace) after() Trace {
	next := new(stretch)
	if t.within != nil {
		next.number = t.within.number + 1
		if next.number%reach != 0 {
			t.within.next.Store(next)
		}
	}
	return Trace{within: next}
}

func isNode(r events.Ref) bool { return r.Resource == "nodes" && r.Group == "" }
