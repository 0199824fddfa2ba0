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
// Each change hangs on the place before it. Nobody holds them but the views, and who
// remembers one: what came before the oldest that is held is garbage. Now and then a trace
// begins anew, so that who remembers one for long does not hold all that comes after it.
type Trace struct {
	object events.Ref // whose change led here
	number int
	next   atomic.Pointer[Trace]
}

// reach is how many changes hang together.
const reach = 1 << 17

// To names the pods and nodes that may be other versions at a later place: all others are
// the same ones. It says false if that place is not among the next, at most so many.
func (t *Trace) To(later *Trace, most int) (changed []events.Ref, ok bool) {
	if t == nil || later == nil {
		return nil, false
	}
	for t != later {
		if t = t.next.Load(); t == nil || len(changed) == most {
			return nil, false
		}
		changed = append(changed, t.object)
	}
	return changed, true
}

// leave returns the place after a change.
func (t *Trace) leave(object events.Ref) *Trace {
	if !isPod(object) && !isNode(object) {
		return t
	}
	after := &Trace{object: object, number: t.number + 1}
	if after.number%reach != 0 {
		t.next.Store(after)
	}
	return after
}

func isNode(r events.Ref) bool { return r.Resource == "nodes" && r.Group == "" }
