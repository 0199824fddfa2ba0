package garbage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
)

// Objects own each other by chance, circles included, and come and go in all ways. Leases
// own nothing.
func TestNamesWhatIsToBeDecided(t *testing.T) {
	refs := []events.Ref{
		{Group: "coordination.k8s.io", Resource: "leases", Namespace: "shop", Name: "l0"},
		{Group: "coordination.k8s.io", Resource: "leases", Namespace: "shop", Name: "l1"},
	}
	for i := range 5 {
		refs = append(refs, events.Ref{Group: "apps", Resource: "replicasets", Namespace: "shop", Name: fmt.Sprint("r", i)})
	}
	kinds := map[string]string{"leases": "Lease", "replicasets": "ReplicaSet"}
	uids := 0
	runnertest.Heard(t, New(), func(r *rand.Rand, v runner.View) runnertest.Write {
		ref := refs[r.IntN(len(refs))]
		e := get(v, ref)
		if e != nil && r.IntN(4) == 0 {
			return runnertest.Write{Object: ref}
		}
		meta := map[string]any{"namespace": "shop", "name": ref.Name}
		if e == nil {
			uids++
			meta["uid"] = fmt.Sprint("u", uids)
		} else {
			meta["uid"] = e.UID
			if e.Meta().DeletionTimestamp != nil || r.IntN(3) == 0 {
				meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
			}
		}
		if f := slices.DeleteFunc([]string{"foregroundDeletion", "orphan", "example.com/x"}, func(string) bool { return r.IntN(3) > 0 }); len(f) > 0 {
			meta["finalizers"] = f
		}
		var owners []any
		for range r.IntN(3) {
			owner := refs[2+r.IntN(5)]
			uid := "gone"
			if o := get(v, owner); o != nil && r.IntN(4) > 0 {
				uid = o.UID
			}
			owners = append(owners, map[string]any{
				"apiVersion": owner.Group + "/v1", "kind": kinds[owner.Resource], "name": owner.Name, "uid": uid, "blockOwnerDeletion": r.IntN(2) == 0,
			})
		}
		if len(owners) > 0 {
			meta["ownerReferences"] = owners
		}
		return runnertest.Write{Object: ref, Doc: map[string]any{"apiVersion": ref.Group + "/v1", "kind": kinds[ref.Resource], "metadata": meta}}
	})
}
