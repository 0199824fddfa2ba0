package projections

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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

// Of two objects whose names have one hash, each is found, also when one has gone.
func TestNamesAlikeInHash(t *testing.T) {
	s := crowded(many)
	a, b := numbered(1), numbered(2)
	want := s.View().Get(b)
	// a has b's place now, and b would have a's.
	inPlaceOf, h := s.index.newest.shard(b)
	inPlaceOf.versions[h] = version{entry: s.View().Get(a), since: 1}
	s.Put(want)
	for _, ref := range []events.Ref{a, b} {
		if got := s.View().Get(ref); got == nil || got.Ref != ref {
			t.Errorf("%s is %v", ref, got)
		}
	}
	delete(inPlaceOf.versions, h) // as when a, which had it once more, were removed
	if got := s.View().Get(b); got != want {
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

// A view knows the resources that have an object, whatever comes and goes after it.
func TestKindsOfViews(t *testing.T) {
	s := NewState()
	put := func(group, resource, namespace, name string) events.Ref {
		ref := events.Ref{Group: group, Resource: resource, Namespace: namespace, Name: name}
		s.Put(NewEntry(ref, "u", 1, 1, []byte(`{}`)))
		return ref
	}
	kinds := func(v Reader) (out []string) {
		for r := range v.Resources() {
			out = append(out, r.Group+"/"+r.Resource)
		}
		return out
	}
	put("apps", "deployments", "a", "1")
	one := put("", "pods", "a", "1")
	put("", "pods", "a", "1")
	two := put("", "pods", "b", "2")
	all := s.View()
	s.Remove(one)
	some := s.View()
	s.Remove(two)
	s.Remove(two)
	put("", "configmaps", "a", "1")
	for _, c := range []struct {
		view       Reader
		kinds      []string
		any, a, b  bool
		deployment bool
	}{
		{all, []string{"/pods", "apps/deployments"}, true, true, true, true},
		{some, []string{"/pods", "apps/deployments"}, true, false, true, true},
		{s.View(), []string{"/configmaps", "apps/deployments"}, false, false, false, true},
	} {
		if got := kinds(c.view); !slices.Equal(got, c.kinds) {
			t.Errorf("there are %v, want %v", got, c.kinds)
		}
		got := [...]bool{Any(c.view, "", "pods", ""), Any(c.view, "", "pods", "a"), Any(c.view, "", "pods", "b"), Any(c.view, "apps", "deployments", "a")}
		if want := [...]bool{c.any, c.a, c.b, c.deployment}; got != want {
			t.Errorf("there is any: %v, want %v", got, want)
		}
	}
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

// What a view costs whom it tells that there is nothing: an object that is about to be
// created, and any of a resource, which admission asks twelve times for a pod.
func BenchmarkViewLacks(b *testing.B) {
	for _, objects := range []int{2_000, 100_000} {
		s := NewState()
		ref := func(n int, suffix string) events.Ref {
			return events.Ref{Resource: "pods", Namespace: "default", Name: fmt.Sprintf("load-%d-5d8f7c6b4d-%05x%s", n%1000, n, suffix)}
		}
		lacks := make([]events.Ref, objects)
		for _, n := range rand.New(rand.NewPCG(1, 1)).Perm(objects) {
			s.Put(NewEntry(ref(n, ""), "u", 1, 1, []byte(`{}`)))
			lacks[s.Len()-1] = ref(n, "x")
		}
		view := s.View()
		b.Run(fmt.Sprint(objects, "/an object"), func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if view.Get(lacks[n%len(lacks)]) != nil {
					b.Fatal("there is what cannot be")
				}
			}
		})
		b.Run(fmt.Sprint(objects, "/any"), func(b *testing.B) {
			for b.Loop() {
				if Any(view, "", "limitranges", "default") {
					b.Fatal("there is what cannot be")
				}
			}
		})
	}
}
