package live

import (
	"context"
	"sort"

	"github.com/reprise-run/reprise/projections"
)

// ring holds the most recent changes. Each has a place in the order of all that
// were ever added, and the ring holds those from end-len to end-1.
type ring struct {
	slots []projections.Change
	end   uint64 // changes ever added
	floor uint64 // all changes after this sequence are held
	last  uint64 // sequence folded
}

func newRing(size int, sequence uint64) ring {
	return ring{slots: make([]projections.Change, size), floor: sequence, last: sequence}
}

func (r *ring) begin() uint64 {
	if n := uint64(len(r.slots)); r.end > n {
		return r.end - n
	}
	return 0
}

func (r *ring) at(place uint64) *projections.Change { return &r.slots[place%uint64(len(r.slots))] }

func (r *ring) add(changes []projections.Change, sequence uint64) {
	for _, c := range changes {
		slot := r.at(r.end)
		if slot.Event != nil {
			r.floor = slot.Event.Sequence
		}
		*slot = c
		r.end++
	}
	r.last = sequence
}

// after returns the place of the first change after a sequence.
func (r *ring) after(sequence uint64) (place uint64, ok bool) {
	if sequence < r.floor {
		return 0, false
	}
	begin := r.begin()
	n := sort.Search(int(r.end-begin), func(i int) bool { return r.at(begin+uint64(i)).Event.Sequence > sequence })
	return begin + uint64(n), true
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
