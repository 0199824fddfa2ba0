package runnertest

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Write is a version of an object that comes, or its removal if it has no Doc, by the API.
type Write struct {
	Object events.Ref
	Doc    map[string]any
}

// Heard checks that a decider names every item about which it has something to decide, as
// it hears of changes that were chosen by chance, some only when others have come. also are
// items that are no objects.
func Heard(t *testing.T, d runner.Decider, choose func(r *rand.Rand, v runner.View) Write, also ...events.Ref) {
	t.Helper()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		history, volatile := projections.NewState(), projections.NewVolatileState()
		view := func() runner.View { return runner.View{Reader: history.View(), Volatile: volatile.View()} }
		named := map[events.Ref]bool{}
		for range 200 {
			var changes []projections.Change
			for range 1 + r.IntN(3) {
				w := choose(r, view())
				s := history
				if events.Volatile(w.Object) {
					s = volatile
				}
				changes = append(changes, written(t, s, w)...)
			}
			v := view()
			for _, c := range changes {
				for _, item := range d.Concerns(v, c) {
					named[item] = true
				}
			}
			for _, item := range append(objectsOf(v), also...) {
				result := d.Decide(v, runner.Item{Ref: item, Because: v.Sequence()}, Epoch)
				if len(result.Commands)+len(result.Decisions) == 0 {
					delete(named, item)
				} else if !named[item] {
					t.Fatalf("seed %d, sequence %d: it would decide about %s, which it did not name: %+v", seed, v.Sequence(), item, result)
				}
			}
		}
	}
}

func written(t *testing.T, s *projections.State, w Write) []projections.Change {
	t.Helper()
	var before, after []byte
	var uid string
	if e := s.View().Get(w.Object); e != nil {
		before, uid = e.Raw, e.UID
	}
	if w.Doc != nil {
		var err error
		if after, err = json.Marshal(w.Doc); err != nil {
			t.Fatal(err)
		}
		uid = w.Doc["metadata"].(map[string]any)["uid"].(string)
	}
	if before == nil && after == nil {
		return nil
	}
	c, some, err := events.Command(w.Object, uid, before, after)
	if err != nil {
		t.Fatal(err)
	}
	if !some {
		return nil
	}
	changes, err := s.Fold([]events.Event{{Sequence: s.Sequence() + 1, Type: c.Type, Object: c.Object, UID: c.UID, Data: c.Data, Optional: c.Optional, Actor: events.Actor{Kind: "api"}}})
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func objectsOf(v runner.View) (all []events.Ref) {
	for _, objects := range []projections.Reader{v.Reader, v.Volatile} {
		for resource := range objects.Resources() {
			for e := range objects.List(resource.Group, resource.Resource, "") {
				all = append(all, e.Ref)
			}
		}
	}
	return all
}
