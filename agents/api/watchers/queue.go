package watchers

import (
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

const (
	// ahead is how many events are laid out for who serves a watch, who sends them
	// without a pause between them.
	ahead = 16
	// patience is by how many events more a watcher may be behind.
	patience = 4096
)

// queue is the watch of one watcher. It begins as a watch of its own, which hears what
// the watcher has missed, and goes on as a part of the feed of all who watch the same.
//
// Both tell the same events in the same order, by version. The queue joins the feed
// when its own watch has begun already, and keeps what the feed tells from then on. Once
// its own watch has come as far as the feed was then, what follows is in the feed whole,
// and the own watch ends. A watcher who has missed nothing is there from the first.
type queue struct {
	own     watch.Interface
	blank   func() runtime.Object
	lender  *lender
	feed    *feed  // nil if the watcher shares with nobody
	live    bool   // the own watch is past its first events
	at      uint64 // up to which version the own watch has told all, if it is live; 0 if unknown
	out     chan watch.Event
	stop    sync.Once
	stopped chan struct{}
	done    <-chan struct{} // closed when the request ends, a moment before stopped is; may be nil
	signal  chan struct{}   // something has come into told, or the feed has begun

	mu     sync.Mutex
	told   []watch.Event // by the feed, and not yet laid out
	since  uint64        // after which version the feed tells all; 0 before it has begun
	heard  uint64        // up to which version the own watch has told all; 0 before the turn
	direct bool          // the feed may lay out events itself: nothing older is left
	left   bool          // the feed tells nothing more
	last   uint64        // up to which version all has been told since the turn
}

func newQueue(own watch.Interface, blank func() runtime.Object, l *lender) *queue {
	return &queue{own: own, blank: blank, lender: l, out: make(chan watch.Event, ahead), stopped: make(chan struct{}), signal: make(chan struct{}, 1)}
}

// ResultChan implements watch.Interface.
func (q *queue) ResultChan() <-chan watch.Event { return q.out }

// Stop implements watch.Interface.
func (q *queue) Stop() {
	q.stop.Do(func() {
		close(q.stopped)
		q.own.Stop()
	})
}

// run lays events out until there are no more, or nobody wants them.
func (q *queue) run() {
	defer q.finish()
	if q.feed != nil {
		defer q.feed.leave(q)
	}
	if q.alone() {
		q.own.Stop()
		q.together()
	}
}

// finish ends what the watcher hears. Who still holds the queue, as a timer does, lays
// nothing out any more.
func (q *queue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left, q.direct = true, false
	close(q.out)
}

// alone lays out what the own watch tells. It says true if the feed has the rest.
//
// What waits meanwhile is what is made for all who watch. An event that was made for
// this watcher alone, as the first ones are, is a copy of its object: after such a one
// no other is taken before it is laid out.
func (q *queue) alone() bool {
	in := q.own.ResultChan()
	var waiting []watch.Event
	carried := false // by the feed, if that goes on
	for in != nil || len(waiting) > 0 || carried && q.goesOn() {
		take, lay, next := in, chan<- watch.Event(nil), watch.Event{}
		if n := len(waiting); n > 0 {
			lay, next = q.out, waiting[0]
			if _, common := waiting[n-1].Object.(runtime.CacheableObject); !common || n >= patience {
				take = nil
			}
		}
		select {
		case e, more := <-take:
			if more {
				e.Object = q.lender.lend(e.Object)
				waiting = append(waiting, e)
				q.advance(e)
			} else {
				in = nil // It may have been cut off.
				// Not who is far behind: what the feed would tell from the past is made for one alone.
				if carried = len(waiting) <= ahead && !q.ended() && q.goesOn(); carried {
					q.feed.goOn(q.at)
				}
			}
			if q.turn(waiting) {
				return true
			}
		case <-q.signal:
			// What lies ready may be why the own watch has failed.
			if len(in) == 0 && q.turn(waiting) {
				return true
			}
		case lay <- next:
			if waiting = pop(waiting); len(waiting) == 0 {
				waiting = nil
			}
		case <-q.stopped:
			return false
		}
	}
	return false
}

// ended says that nobody wants to hear more.
func (q *queue) ended() bool {
	select {
	case <-q.stopped:
		return true
	case <-q.done:
		return true
	default:
		return false
	}
}

// goesOn says that the feed may have what follows the own watch: it has not begun after
// more than that has told, and has not ended.
func (q *queue) goesOn() bool {
	if q.feed == nil || !q.live || q.at == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.left && (q.since == 0 || q.since <= q.at)
}

// advance notes how far the own watch has come with an event.
func (q *queue) advance(e watch.Event) {
	if !q.live {
		last, err := storage.HasInitialEventsEndBookmarkAnnotation(e.Object)
		q.live = err == nil && e.Type == watch.Bookmark && last
	}
	if q.live {
		q.at = version(e) // None, if it is an error.
	}
}

// turn hands what waits over to the feed, if the own watch has come so far.
func (q *queue) turn(waiting []watch.Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left {
		q.told = nil
	}
	if q.left || q.since == 0 || q.at < q.since {
		return false
	}
	q.heard, q.last = q.at, q.at
	for _, e := range q.told {
		if at := version(e); at > q.at {
			waiting, q.last = append(waiting, e), at
		}
	}
	q.told = waiting
	return true
}

// begin hears from the feed, before it tells anything, after which version it tells all.
func (q *queue) begin(since uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.since = since
	q.wake()
}

// together lays out what the feed has told, as long as it does not do so itself.
func (q *queue) together() {
	for {
		q.mu.Lock()
		events, left := q.told, q.left
		q.told, q.direct = nil, len(q.told) == 0
		q.mu.Unlock()
		for _, e := range events {
			select {
			case q.out <- e:
			case <-q.stopped:
				return
			}
		}
		if len(events) > 0 {
			continue
		}
		if left {
			return
		}
		select {
		case <-q.signal:
		case <-q.stopped:
			return
		}
	}
}

// tell takes an event from the feed.
func (q *queue) tell(e watch.Event, at uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left || at <= q.heard {
		return
	}
	if q.heard > 0 {
		q.last = at
	}
	q.lay(e)
}

// remind tells the watcher how far it is, before its time is up, as upstream does.
func (q *queue) remind() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left || q.heard == 0 {
		return // Upstream does, or the watcher is cut off anyway.
	}
	object := q.blank()
	m, err := meta.Accessor(object)
	if err != nil {
		return
	}
	m.SetResourceVersion(strconv.FormatUint(q.last, 10))
	q.lay(watch.Event{Type: watch.Bookmark, Object: object})
}

// lay lays out an event if there is room for it and nothing older, and keeps it if not.
func (q *queue) lay(e watch.Event) {
	if q.direct {
		select {
		case q.out <- e:
			return
		default:
			q.direct = false
		}
	}
	if len(q.told) >= patience {
		q.leave()
		return
	}
	q.told = append(q.told, e)
	q.wake()
}

// end hears that the feed tells nothing more.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave()
}

// leave marks that what the feed has told is not followed by what it would have told.
func (q *queue) leave() {
	q.left, q.direct = true, false
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// pop forgets the oldest event.
func pop(events []watch.Event) []watch.Event {
	events[0] = watch.Event{}
	return events[1:]
}

// version is that of an event's object, 0 for one that has none.
func version(e watch.Event) uint64 {
	object, err := meta.Accessor(e.Object)
	if err != nil {
		return 0
	}
	v, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return v
}
