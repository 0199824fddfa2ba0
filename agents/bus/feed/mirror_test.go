package feed

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"weak"

	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

var told = projectionstest.Pod("shop", "web")

// tell has a mirror hear of the next version of a pod, and returns it.
func tell(m *Mirror, sequence uint64) weak.Pointer[projections.Entry] {
	raw := fmt.Appendf(nil, `{"metadata":{"name":"web","namespace":"shop","generation":%d}}`, sequence)
	m.apply([]message{{Sequence: sequence, Puts: []put{{Ref: ref(told), UID: "u", Created: 1, Sequence: sequence, Raw: raw}}}})
	return weak.Make(m.View().Get(told))
}

// next takes what a follower has yet to hear and returns how many changes that is.
func next(t *testing.T, c live.Changes, want int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // there are some, or it need not wait
	if batch, err := c.Next(ctx); len(batch) != want || want > 0 && err != nil {
		t.Errorf("%d changes, want %d: %v", len(batch), want, err)
	}
}

func TestFollowersOfAMirror(t *testing.T) {
	m := newMirror()
	follow := func(after uint64) live.Changes {
		t.Helper()
		c, err := m.Changes(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := follow(0)
	tell(m, 5)
	early := follow(0) // one step was missed since its view
	next(t, first, 1)
	tell(m, 7)
	m.reached(20)
	late, ahead := follow(6), follow(30)
	next(t, first, 1)
	next(t, first, 0)
	next(t, early, 2)
	next(t, late, 1)
	next(t, follow(20), 0)
	if _, err := m.Changes(t.Context(), 4); !errors.Is(err, live.ErrTooOld) {
		t.Errorf("who comes after two steps is told %v", err)
	}
	tell(m, 30)
	next(t, ahead, 0)
	for i := range uint64(behind) {
		tell(m, 31+i)
	}
	next(t, ahead, behind)
	if _, err := first.Next(t.Context()); !errors.Is(err, live.ErrTooOld) {
		t.Errorf("who has fallen behind is told %v", err)
	}
}

// What all followers have heard of is not kept.
func TestAMirrorForgetsOldVersions(t *testing.T) {
	m := newMirror()
	quick, err := m.Changes(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var versions []weak.Pointer[projections.Entry]
	for i := range uint64(5) {
		versions = append(versions, tell(m, 1+i))
		next(t, quick, 1)
	}
	runtime.GC()
	for i, v := range versions {
		// The last change is kept for those who come to follow: it has two of them.
		if is := v.Value() != nil; is != (i >= 3) {
			t.Errorf("version %d is kept: %t", i, is)
		}
	}
	runtime.KeepAlive(m)
}

// An object does not keep those in memory that came with it.
func TestObjectsAreKeptByThemselves(t *testing.T) {
	small, large := []byte(`{"a":1}`), fmt.Appendf(nil, `{"a":%0900d}`, 7)
	object := func(name string, raw []byte) put {
		return put{Ref: ref{Resource: "pods", Name: name}, Size: len(raw), Raw: raw}
	}
	data := message{Epoch: "e", Puts: []put{object("a", small), object("b", large)}}.appendTo(nil)
	m, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if got := string(m.Puts[0].Raw); got != string(small) {
		t.Errorf("the small one is %q", got)
	}
	if got := m.Puts[1].Raw; len(got) != len(large) || got[0] != 0 {
		t.Errorf("the large one, which is nearly all of the message, was copied")
	}
}
