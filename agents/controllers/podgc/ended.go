package podgc

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// memo remembers which pods have ended in a view, so that for a later one only those that
// have changed since are looked at. It changes nothing but the time that this takes.
type memo struct {
	mu    sync.Mutex
	trace *projections.Trace // of the view
	ended map[events.Ref]*projections.Entry
}

// in returns the pods that have ended in a view and are not being deleted, in no order.
// They are the memo's until it is asked again.
func (m *memo) in(v runner.View) map[events.Ref]*projections.Entry {
	var trace *projections.Trace
	if t, ok := v.Reader.(projections.Traced); ok {
		trace = t.Trace()
	}
	changed, ok := m.trace.To(trace, most)
	if !ok {
		m.ended = map[events.Ref]*projections.Entry{}
		for e := range v.List("", "pods", "") {
			if countsAsEnded(e) {
				m.ended[e.Ref] = e
			}
		}
	}
	for _, ref := range changed {
		if !objects.IsPod(ref) {
			continue
		}
		if e := v.Get(ref); e != nil && countsAsEnded(e) {
			m.ended[ref] = e
		} else {
			delete(m.ended, ref)
		}
	}
	m.trace = trace
	return m.ended
}

// most is after how many changes all pods are looked at instead.
const most = 100_000

// countsAsEnded says whether a pod has ended, and is not being deleted. It decodes nothing.
func countsAsEnded(e *projections.Entry) bool {
	phase, _ := events.Text(e.Lookup("status", "phase"))
	return (phase == string(core.PodSucceeded) || phase == string(core.PodFailed)) && e.Lookup("metadata", "deletionTimestamp") == nil
}

// trim deletes the oldest of the pods that have ended, beyond what is kept. Those
// that were evicted go first, for nobody looks at what they did.
func (d decider) trim(v runner.View, because uint64) runner.Result {
	d.memo.mu.Lock()
	defer d.memo.mu.Unlock()
	ended := d.memo.in(v)
	extra := len(ended) - d.Ended
	if extra <= 0 {
		return runner.Result{}
	}
	inOrder := slices.SortedFunc(maps.Values(ended), func(a, b *projections.Entry) int {
		x, y := projections.As[core.Pod](a), projections.As[core.Pod](b)
		if evicted(x) != evicted(y) {
			if evicted(x) {
				return -1
			}
			return 1
		}
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), a.Ref.Compare(b.Ref))
	})
	var r runner.Result
	for _, e := range inOrder[:min(extra, burst)] {
		r.Commands = append(r.Commands, force(e, because))
	}
	return r
}

func evicted(pod *core.Pod) bool { return strings.EqualFold(pod.Status.Reason, "Evicted") }
