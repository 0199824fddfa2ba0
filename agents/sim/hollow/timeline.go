package hollow

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Timeline has what is to happen later, for all the runtimes of a process: one heap
// and one timer, however many containers wait for something.
type Timeline struct {
	clock clock.WithTicker

	mu      sync.Mutex
	due     entries
	entered uint64        // counts entries, so that those of one time keep their order
	earlier chan struct{} // says that the first entry is another
}

// entry is one thing that is to happen.
type entry struct {
	at    time.Time
	order uint64
	do    func()
	place int // in the heap, negative if it is not there any more
}

// NewTimeline returns a timeline on a clock. Nothing happens until Run.
func NewTimeline(clock clock.WithTicker) *Timeline {
	return &Timeline{clock: clock, earlier: make(chan struct{}, 1)}
}

// Now is the time.
func (t *Timeline) Now() time.Time { return t.clock.Now() }

// Run has things happen when their time has come, one after the other, until ctx
// ends.
func (t *Timeline) Run(ctx context.Context) {
	timer := t.clock.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if next := t.Advance(t.clock.Now()); !next.IsZero() {
			wait = max(next.Sub(t.clock.Now()), 0)
		}
		if !timer.Stop() {
			select {
			case <-timer.C():
			default:
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
		case <-t.earlier:
		}
	}
}

// Advance has all things happen whose time has come at now, and returns when the
// next comes, zero for never. It is for those who move time themselves; Run calls
// it for the others.
func (t *Timeline) Advance(now time.Time) (next time.Time) {
	for {
		t.mu.Lock()
		if len(t.due) == 0 {
			t.mu.Unlock()
			return time.Time{}
		}
		if first := t.due[0]; first.at.After(now) {
			t.mu.Unlock()
			return first.at
		}
		e := heap.Pop(&t.due).(*entry)
		t.mu.Unlock()
		e.do()
	}
}

// after has something happen when d has passed.
func (t *Timeline) after(d time.Duration, do func()) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entered++
	e := &entry{at: t.clock.Now().Add(d), order: t.entered, do: do}
	heap.Push(&t.due, e)
	if e.place == 0 {
		select {
		case t.earlier <- struct{}{}:
		default:
		}
	}
	return e
}

// cancel keeps something from happening that has not happened yet.
func (t *Timeline) cancel(e *entry) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.place >= 0 {
		heap.Remove(&t.due, e.place)
	}
}

// sleep waits for d to pass.
func (t *Timeline) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	passed := make(chan struct{})
	e := t.after(d, func() { close(passed) })
	select {
	case <-passed:
		return nil
	case <-ctx.Done():
		t.cancel(e)
		return ctx.Err()
	}
}

// entries are a heap by time, and by order where the time is the same.
type entries []*entry

// Len, Less, Swap, Push and Pop are heap.Interface's.
func (s entries) Len() int { return len(s) }
func (s entries) Less(i, j int) bool {
	if s[i].at.Equal(s[j].at) {
		return s[i].order < s[j].order
	}
	return s[i].at.Before(s[j].at)
}

func (s entries) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

func (s *entries) Push(x any) {
	e := x.(*entry)
	e.place = len(*s)
	*s = append(*s, e)
}

func (s *entries) Pop() any {
	last := len(*s) - 1
	e := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	e.place = -1
	return e
}
