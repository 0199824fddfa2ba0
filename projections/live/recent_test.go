package live

import (
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// TestRecentChangesAreBounded adds changes of 4 kB one by one, and says how many are
// held then.
func TestRecentChangesAreBounded(t *testing.T) {
	const size = 4 << 10
	for _, c := range []struct {
		objects, size, want int
	}{
		{objects: 0, size: size, want: recentFew / size},
		{objects: 2_000, size: size, want: recentFew / size},
		{objects: 5_000, size: size, want: 5_000 * recentEach / size},
		{objects: 100_000, size: size, want: recentBytes / size},
		{objects: 100_000, size: 16, want: 10_000},     // as many as there are places
		{objects: 0, size: 1 << 20, want: recentLeast}, // whatever they take
	} {
		r := newRing(10_000, 0)
		data := make([]byte, c.size)
		for n := range uint64(12_000) {
			change := projections.Change{Event: &events.Event{Sequence: n + 1, Data: data}, Before: &projections.Entry{}}
			r.add([]projections.Change{change}, n+1, room(c.objects))
		}
		// One more than fits is dropped when the next one comes.
		if held := int(r.end - r.begin); held < c.want || held > c.want+1 {
			t.Errorf("%d objects, changes of %d bytes: %d are held, not %d", c.objects, c.size, held, c.want)
		}
		if _, ok := r.after(r.at(r.begin).Event.Sequence - 1); !ok {
			t.Error("what is held cannot be followed from its beginning")
		}
		if _, ok := r.after(r.at(r.begin).Event.Sequence - 2); ok {
			t.Error("what is no longer held is said to be there")
		}
	}
}

// What is folded at once throws nobody out who had followed all before it, however much
// that is; the next to be added does.
func TestWhoIsNotBehindFollows(t *testing.T) {
	r := newRing(10_000, 0)
	change := func(n uint64) projections.Change {
		return projections.Change{Event: &events.Event{Sequence: n, Data: make([]byte, 8<<10)}, Before: &projections.Entry{}}
	}
	r.add([]projections.Change{change(1)}, 1, room(0))
	var batch []projections.Change
	for n := uint64(2); n <= 2001; n++ {
		batch = append(batch, change(n))
	}
	r.add(batch, 2001, room(0))
	if _, ok := r.after(1); !ok {
		t.Errorf("who has followed up to event 1 is behind: %d of %d changes are held", r.end-r.begin, len(batch))
	}
	r.add([]projections.Change{change(2002)}, 2002, room(0))
	if held := r.end - r.begin; held != recentLeast+1 {
		t.Errorf("then %d are held", held)
	}
}
