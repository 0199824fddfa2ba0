package runner

import (
	"container/heap"
	"time"

	"github.com/reprise-run/reprise/events"
)

// queue knows which items are to be decided, in what order and when. An item is in at
// most one of three places: in ready, with a worker, or in waiting (for a sequence to be
// folded). Beside that it may be in timers, to be looked at at a later time.
type queue struct {
	items   map[events.Ref]*entry
	ready   []*entry
	waiting []*entry
	timers  timers
	folded  uint64 // how far the projection has come
	// gather is for how long the first item that is ready waits for others, and
	// opens when that is over; zero before one has come.
	gather time.Duration
	opens  time.Time
}

// entry is what the runner remembers about an item.
type entry struct {
	Item
	dirty   bool // something that concerns it has changed
	queued  bool // is in ready
	running bool // is with a worker
	parked  bool // is in waiting
	// after is a sequence that must be folded before it is decided again.
	after uint64
	// notBefore is the end of its back-off, wake the time it asked for; zero while it is
	// with a worker.
	notBefore, wake time.Time
	// rings is when it is looked at, timer its place in timers, counted from 1; 0 if it is
	// in none.
	rings time.Time
	timer int
	// tries counts the failures in a row, of commands and decisions.
	tries int
}

func newQueue(gather time.Duration) *queue {
	return &queue{items: map[events.Ref]*entry{}, gather: gather}
}

// mark says that a change concerned the item. Because is zero for a change that
// is not in the history.
func (q *queue) mark(ref events.Ref, because uint64) {
	it := q.items[ref]
	if it == nil {
		it = &entry{Item: Item{Ref: ref}}
		q.items[ref] = it
	}
	it.Because = max(it.Because, because)
	it.dirty = true
	q.enqueue(it)
}

func (q *queue) enqueue(it *entry) {
	if !it.queued && !it.running && !it.parked {
		it.queued = true
		q.ready = append(q.ready, it)
	}
}

// next takes the item that is to be decided next, or nil.
func (q *queue) next(now time.Time) *entry {
	if q.gathers(now) {
		return nil
	}
	for len(q.ready) > 0 {
		it := q.ready[0]
		q.ready[0], q.ready = nil, q.ready[1:]
		it.queued = false
		switch {
		case it.after > q.folded:
			it.parked = true
			q.waiting = append(q.waiting, it)
		case it.notBefore.After(now):
			q.look(it, it.notBefore)
		case !it.dirty: // came only to wait for a sequence that has been folded meanwhile
			q.drop(it)
		default:
			it.dirty, it.running, it.wake = false, true, time.Time{}
			return it
		}
	}
	q.opens = time.Time{}
	return nil
}

// gathers says whether those that are ready wait for others still.
func (q *queue) gathers(now time.Time) bool {
	if q.gather == 0 || len(q.ready) == 0 {
		return false
	}
	if q.opens.IsZero() {
		q.opens = now.Add(q.gather)
	}
	return now.Before(q.opens)
}

// advance readies the items whose time has come.
func (q *queue) advance(now time.Time) {
	for len(q.timers) > 0 && !q.timers[0].rings.After(now) {
		it := heap.Pop(&q.timers).(*entry)
		switch {
		case it.wake.IsZero():
		case it.wake.After(now): // it rang for something else
			q.look(it, it.wake)
		default:
			it.dirty = true
		}
		if it.dirty {
			q.enqueue(it)
		}
	}
}

// fold takes note of how far the projection has come, and readies the items that waited for
// it.
func (q *queue) fold(sequence uint64) {
	if sequence <= q.folded {
		return
	}
	q.folded = sequence
	waiting := q.waiting
	q.waiting = nil
	for _, it := range waiting {
		it.parked = false
		if it.dirty || it.after > q.folded {
			q.enqueue(it)
		} else {
			q.drop(it)
		}
	}
}

// outcome is what came of a decision on an item.
type outcome struct {
	// last is the newest sequence that the decision led to, or that a conflict
	// showed: what the view must hold before the item is decided again.
	last uint64
	// again asks to decide again at once, retry to do so after a back-off.
	again, retry bool
	// refused is the text of a refusal of a command.
	refused string
	wake    time.Time
}

// finish takes an item back from a worker.
func (q *queue) finish(it *entry, o outcome, now time.Time) {
	it.running = false
	it.after = max(it.after, o.last)
	switch {
	case o.refused != "":
		it.Failures, it.Failure = it.Failures+1, o.refused
	case !o.retry:
		it.Failures, it.Failure = 0, ""
	}
	if o.retry {
		it.tries++
		it.notBefore = now.Add(backoff(it.tries))
	} else {
		it.tries, it.notBefore = 0, time.Time{}
	}
	it.dirty = it.dirty || o.again || o.retry
	if it.wake = o.wake; !it.wake.IsZero() {
		if !it.wake.After(now) { // time passes while things are carried out
			it.wake = now.Add(firstBackoff)
		}
		q.look(it, it.wake)
	}
	if it.dirty || it.after > q.folded {
		q.enqueue(it)
		return
	}
	q.drop(it)
}

// drop forgets an item of which there is nothing to remember.
func (q *queue) drop(it *entry) {
	if it.wake.IsZero() && it.tries == 0 && it.Failures == 0 {
		delete(q.items, it.Ref)
	}
}

// until is the time at which advance or next have something to do again; zero for
// never.
func (q *queue) until(now time.Time) (at time.Time) {
	if len(q.timers) > 0 {
		at = q.timers[0].rings
	}
	if q.gathers(now) && (at.IsZero() || q.opens.Before(at)) {
		at = q.opens
	}
	return at
}

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 30 * time.Second
)

// backoff is for how long an item rests after so many tries that failed: twice as long each
// time, up to lastBackoff.
func backoff(tries int) time.Duration {
	d := firstBackoff
	for range tries - 1 {
		if d *= 2; d >= lastBackoff {
			return lastBackoff
		}
	}
	return d
}

// look has an item be looked at no later than at a time. That is not taken back when it
// no longer waits for it; to look in vain does no harm.
func (q *queue) look(it *entry, at time.Time) {
	switch {
	case it.timer == 0:
		it.rings = at
		heap.Push(&q.timers, it)
	case at.Before(it.rings):
		it.rings = at
		heap.Fix(&q.timers, it.timer-1)
	}
}

// timers are the items that are to be looked at at a time, each of them once.
type timers []*entry

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].rings.Before(t[j].rings) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timer, t[j].timer = i+1, j+1
}
func (t *timers) Push(x any) {
	it := x.(*entry)
	*t = append(*t, it)
	it.timer = len(*t)
}
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	(*t)[len(*t)-1] = nil
	*t = (*t)[:len(*t)-1]
	last.timer = 0
	return last
}
