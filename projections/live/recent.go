package live

import (
	"context"
	"sort"

	"github.com/reprise-run/reprise/projections"
)

// ring holds the most recent changes. Each has a place in the order of all that
// were ever added, and the ring holds those from begin to end-1.
type ring struct {
	slots      []projections.Change
	begin, end uint64
	floor      uint64 // all changes after this sequence are held
	last       uint64 // sequence folded
	bytes      int    // about what the changes held take
}

// What the recent changes may take, by what their objects and patches measure; decoded,
// these take a few times that. They spare who has fallen behind from starting again,
// which is a look at every object there is: so they may be as many as a version of each,
// and no more. A thousand changes are held however large they are (decision 0349).
const (
	recentBytes = 32 << 20 // at most
	recentFew   = 6 << 20  // with few objects
	recentEach  = 3 << 10  // of an object
	recentLeast = 1024     // changes
)

// room is what the recent changes may take beside so many objects.
func room(objects int) int { return min(max(recentFew, objects*recentEach), recentBytes) }

func newRing(size int, sequence uint64) ring {
	return ring{slots: make([]projections.Change, size), floor: sequence, last: sequence}
}

func (r *ring) at(place uint64) *projections.Change { return &r.slots[place%uint64(len(r.slots))] }

// add adds what was folded at once. None of that is forgotten for want of room: who has
// followed all before it is not behind.
func (r *ring) add(changes []projections.Change, sequence uint64, room int) {
	before := r.end
	for _, c := range changes {
		for r.end-r.begin == uint64(len(r.slots)) || (r.bytes > room && r.end-r.begin > recentLeast && r.begin < before) {
			r.drop()
		}
		*r.at(r.end) = c
		r.end++
		r.bytes += weight(&c)
	}
	r.last = sequence
}

// drop forgets the oldest change.
func (r *ring) drop() {
	oldest := r.at(r.begin)
	r.floor = oldest.Event.Sequence
	r.bytes -= weight(oldest)
	*oldest = projections.Change{}
	r.begin++
}

func weight(c *projections.Change) int { return len(c.Event.Data) + len(c.Entry().Raw) }

// after returns the place of the first change after a sequence.
func (r *ring) after(sequence uint64) (place uint64, ok bool) {
	if sequence < r.floor {
		return 0, false
	}
	n := sort.Search(int(r.end-r.begin), func(i int) bool { return r.at(r.begin+uint64(i)).Event.Sequence > sequence })
	return r.begin + uint64(n), true
}

// from returns what is held from a place on.
func (r *ring) from(place uint64) []projections.Change {
	all := make([]projections.Change, 0, r.end-place)
	for ; place < r.end; place++ {
		all = append(all, *r.at(place))
	}
	return all
}

// Changes implements Projection.
func (l *Live) Changes(_ context.Context, after uint64) (Changes, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.recent.after(after); !ok {
		return nil, ErrTooOld
	}
	return &position{live: l, after: after}, nil
}

// position is a follower's place in the changes.
type position struct {
	live  *Live
	after uint64
}

// Next implements Changes.
func (p *position) Next(ctx context.Context) ([]projections.Change, error) {
	for {
		changes, moved, err := p.take()
		if err != nil || len(changes) > 0 {
			return changes, err
		}
		select {
		case <-moved:
		case <-p.live.done:
			return nil, p.live.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *position) take() ([]projections.Change, <-chan struct{}, error) {
	l := p.live
	l.mu.Lock()
	defer l.mu.Unlock()
	place, ok := l.recent.after(p.after)
	if !ok {
		return nil, nil, ErrTooOld
	}
	// Positions beyond what is folded stay there until it is.
	p.after = max(p.after, l.recent.last)
	return l.recent.from(place), l.moved, nil
}
