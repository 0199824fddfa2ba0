package committer

import (
	"context"
	"sync"
	"testing"

	"github.com/reprise-run/reprise/events"
)

// memIndex is the least projection: it folds events into a map.
type memIndex struct {
	mu      sync.Mutex
	objects map[events.Ref]standing
	folded  uint64
	moved   chan struct{}
}

func newMemIndex() *memIndex {
	return &memIndex{objects: map[events.Ref]standing{}, moved: make(chan struct{})}
}

func (x *memIndex) Lookup(object events.Ref) ([]byte, events.Outline, string, uint64, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s, ok := x.objects[object]
	return s.raw, s.outline, s.uid, s.last, ok
}

func (x *memIndex) Folded() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.folded
}

func (x *memIndex) Wait(ctx context.Context, sequence uint64) error {
	for {
		x.mu.Lock()
		folded, moved := x.folded, x.moved
		x.mu.Unlock()
		if folded >= sequence {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (x *memIndex) fold(t testing.TB, e *events.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	effect, known := events.EffectOf(e.Type, e.Object)
	if !known || e.Sequence != x.folded+1 {
		t.Errorf("cannot fold after %d:\n%s", x.folded, e)
		return
	}
	s := standing{raw: e.Data, uid: e.UID, last: e.Sequence}
	switch effect {
	case events.Removes:
		delete(x.objects, e.Object)
	case events.Changes:
		var err error
		if s.raw, err = events.Apply(x.objects[e.Object].raw, e.Data); err != nil {
			t.Errorf("%v:\n%s", err, e)
		}
		fallthrough
	default:
		x.objects[e.Object] = s
	}
	x.folded = e.Sequence
	close(x.moved)
	x.moved = make(chan struct{})
}

// follow folds the log until the test ends.
func (x *memIndex) follow(t testing.TB, log events.Log) {
	r, err := log.Follow(t.Context(), x.Folded()+1)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for {
			got, err := r.Next(ctx)
			if err != nil {
				return
			}
			for i := range got {
				x.fold(t, &got[i])
			}
		}
	}()
}
