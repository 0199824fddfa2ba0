package node_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// forgetful is a projection that no longer has the first change of any ConfigMap when
// a follower comes to it.
type forgetful struct {
	live.Projection
	forgot atomic.Bool
}

func (f *forgetful) Changes(ctx context.Context, after uint64) (live.Changes, error) {
	changes, err := f.Projection.Changes(ctx, after)
	return forgetting{changes, f}, err
}

type forgetting struct {
	live.Changes
	by *forgetful
}

func (f forgetting) Next(ctx context.Context) ([]projections.Change, error) {
	batch, err := f.Changes.Next(ctx)
	if slices.ContainsFunc(batch, func(c projections.Change) bool { return c.Event.Type == "configmap.data-changed" }) && f.by.forgot.CompareAndSwap(false, true) {
		return nil, live.ErrTooOld
	}
	return batch, err
}

// What a node has not heard of reaches its pods' volumes too.
func TestVolumesAfterAGap(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.stop()
		view := &forgetful{Projection: b.view}
		b.seen = view
		b.start()
		conf := events.Ref{Resource: "configmaps", Namespace: "shop", Name: "conf"}
		b.propose(events.Change{Type: "configmap.created", Object: conf, UID: "c1",
			Data: []byte(`{"apiVersion":"v1","data":{"k":"old"},"kind":"ConfigMap","metadata":{"name":"conf","namespace":"shop","uid":"c1"}}`)})
		b.propose(events.Change{Type: "pod.created", Object: web, UID: "u1", Data: []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"generation":1,"name":"web","namespace":"shop","uid":"u1"},` +
			`"spec":{"containers":[{"image":"img","name":"a","volumeMounts":[{"mountPath":"/conf","name":"conf"}]}],"nodeName":"n1","restartPolicy":"Always",` +
			`"volumes":[{"configMap":{"defaultMode":420,"name":"conf"},"name":"conf"}]},"status":{"phase":"Pending"}}`)})
		has := func(want string) {
			t.Helper()
			b.settle(time.Second)
			got, err := os.ReadFile(filepath.Join(b.root, "pods", "u1", "volumes", "kubernetes.io~configmap", "conf", "k"))
			if err != nil || string(got) != want {
				t.Errorf("the volume has %q, want %q: %v", got, want, err)
			}
		}
		synctest.Wait()
		has("old")
		for _, value := range []string{"new", "newer"} {
			b.propose(events.Change{Type: "configmap.data-changed", Object: conf, UID: "c1", Data: []byte(`[{"op":"replace","path":"/data/k","value":"` + value + `"}]`)})
			has(value)
		}
		if !view.forgot.Load() {
			t.Error("there was no gap")
		}
	})
}
