package projections

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/reprise-run/reprise/events"
)

func numbered(n int) events.Ref {
	return events.Ref{Resource: "configmaps", Namespace: "default", Name: fmt.Sprintf("c-%d", n)}
}

// crowded returns a State with so many objects that their newest versions have a place of
// their own.
func crowded(objects int) *State {
	s := NewState()
	for n := range objects {
		s.Put(NewEntry(numbered(n), "u", 1, 1, []byte(`{}`)))
	}
	return s
}

// A view goes on showing what there was when it was made, whatever becomes of it, and one
// that is made after a change shows the change.
func TestViewsOfManyObjects(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := crowded(many)
		now := map[events.Ref]*Entry{}
		for e := range s.View().List("", "configmaps", "") {
			now[e.Ref] = e
		}
		type moment struct {
			view Reader
			want map[events.Ref]*Entry
		}
		var moments []moment
		for sequence := range uint64(200) {
			ref := numbered(many - 50 + random.IntN(100)) // Half of them are not there at first.
			if random.IntN(3) == 0 {
				s.Remove(ref)
				delete(now, ref)
			} else {
				now[ref] = NewEntry(ref, "u", 1, sequence, []byte(`{}`))
				s.Put(now[ref])
			}
			if random.IntN(4) == 0 {
				moments = append(moments, moment{s.View(), maps.Clone(now)})
			}
		}
		for i, m := range moments {
			for n := range many + 50 {
				if got, want := m.view.Get(numbered(n)), m.want[numbered(n)]; got != want {
					t.Fatalf("seed %d, view %d of %d: %s is %v, want %v", seed, i+1, len(moments), numbered(n), got, want)
				}
			}
		}
	}
}

// Of two objects whose names have one hash, each is found.
func TestNamesAlikeInHash(t *testing.T) {
	s := crowded(many)
	a, b := numbered(1), numbered(2)
	shard, h := s.index.newest.shard(a)
	shard.versions[h] = version{entry: s.View().Get(b), since: 1}
	s.index.newest.remove(a)
	if got := s.View().Get(a); got == nil || got.Ref != a {
		t.Errorf("%s is %v", a, got)
	}
	if got := s.View().Get(b); got == nil || got.Ref != b {
		t.Errorf("%s is %v", b, got)
	}
}

// Views are read while objects change.
func TestViewsWhileObjectsChange(t *testing.T) {
	s := crowded(many)
	var readers sync.WaitGroup
	for sequence := range uint64(200) {
		ref := numbered(int(sequence % 7))
		s.Remove(ref)
		after := NewEntry(ref, "u", 1, 2+sequence, []byte(`{}`))
		s.Put(after)
		view := s.View()
		readers.Go(func() {
			for range 100 {
				if got := view.Get(ref); got != after {
					t.Errorf("%s is %v, want %v", ref, got, after)
					return
				}
			}
		})
	}
	readers.Wait()
}

// What a view costs whom it is asked, with as many objects as a large cluster has.
func BenchmarkViewGet(b *testing.B) {
	for _, objects := range []int{many - 1, 10_000, 300_000} {
		b.Run(fmt.Sprint(objects), func(b *testing.B) {
			s := NewState()
			refs := make([]events.Ref, objects)
			for n := range refs {
				ref := events.Ref{Resource: "pods", Namespace: "default", Name: fmt.Sprintf("load-%d-5d8f7c6b4d-%05x", n%1000, n)}
				s.Put(NewEntry(ref, "u", 1, 1, []byte(`{}`)))
				refs[n] = ref
			}
			random := rand.New(rand.NewPCG(1, 1))
			random.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
			view := s.View()
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if view.Get(refs[n%len(refs)]) == nil {
					b.Fatal("an object is not there")
				}
			}
		})
	}
}
