package eventsgen_test

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/projections"
)

// A generated log is one that the committer could have written: its events are
// allowed, fold, are chained, and name causes that came before.
func TestLog(t *testing.T) {
	const size = 60_000
	state := projections.NewState()
	var chain [32]byte
	var last events.Event
	types := map[string]int{}
	g := eventsgen.New(eventsgen.Options{Seed: 1, Events: size})
	for batch := range g.Batches(500) {
		var err error
		if chain, err = events.VerifyChain(state.Sequence(), chain, batch); err != nil {
			t.Fatal(err)
		}
		for i := range batch {
			ev := &batch[i]
			if err := ev.Check(); err != nil {
				t.Fatalf("event %d: %v", ev.Sequence, err)
			}
			if ev.Cause >= ev.Sequence || ev.Basis >= ev.Sequence || ev.Time.Before(last.Time) || (ev.Now.IsZero() != (ev.Basis == 0)) {
				t.Fatalf("event %d: cause %d, basis %d, now %v, at %v after %v", ev.Sequence, ev.Cause, ev.Basis, ev.Now, ev.Time, last.Time)
			}
			if len(ev.Note) > 0 && !json.Valid(ev.Note) {
				t.Fatalf("event %d: the note is no JSON: %s", ev.Sequence, ev.Note)
			}
			types[ev.Type]++
			last = *ev
		}
		if _, err := state.Fold(batch); err != nil {
			t.Fatal(err)
		}
	}
	if state.Sequence() != size || last.More {
		t.Errorf("the log ends at %d, more=%t", state.Sequence(), last.More)
	}
	for _, typ := range []string{
		"customresourcedefinition.created", "namespace.created", "serviceaccount.created", "node.registered", "node.observed", "node.lost",
		"node.ready", "configmap.data-changed", "secret.created", "secret.data-changed", "deployment.created", "deployment.scaled",
		"deployment.image-changed", "deployment.deleted", "replicaset.created", "replicaset.scaled", "replicaset.observed",
		"replicaset.deleted", "pod.created", "pod.bound", "pod.sandboxed", "container.started", "pod.ready", "pod.unready",
		"container.exited", "container.waiting", "pod.terminating", "pod.removed", "backup.created", "backup.status-updated",
	} {
		if types[typ] == 0 {
			t.Errorf("there is no %s", typ)
		}
	}
	if n := len(slices.Collect(state.View().List("", "pods", ""))); n < 1000*9/10 {
		t.Errorf("%d pods are alive at the end", n)
	}
	for _, typ := range slices.Sorted(maps.Keys(types)) {
		t.Logf("%6d %s", types[typ], typ)
	}
	checkObjects(t, state.View())
}

// checkObjects decodes the objects as clients do.
func checkObjects(t *testing.T, view projections.Reader) {
	t.Helper()
	size, pods, ready := 0, 0, 0
	for e := range view.List("", "pods", "") {
		p := projections.As[core.Pod](e)
		if p.Name != e.Ref.Name || len(p.Spec.Containers) == 0 || p.Spec.Volumes == nil {
			t.Fatalf("%s is no pod: %s", e.Ref, e.Raw)
		}
		if len(p.Status.Conditions) == 5 && p.Status.Conditions[4].Status == core.ConditionTrue {
			ready++
		}
		size += len(e.Raw)
		pods++
	}
	if mean := size / pods; mean < 2000 || mean > 5500 {
		t.Errorf("a pod has %d bytes on average", mean)
	}
	if ready < pods*8/10 {
		t.Errorf("%d of %d pods are ready", ready, pods)
	}
	for e := range view.List("apps", "replicasets", "") {
		projections.As[apps.ReplicaSet](e)
	}
	for e := range view.List("apps", "deployments", "") {
		d := projections.As[apps.Deployment](e)
		if len(d.Spec.Template.Spec.Containers) == 0 {
			t.Errorf("%s has no containers", e.Ref)
		}
	}
	for e := range view.List("", "nodes", "") {
		projections.As[core.Node](e)
	}
}

// The same options make the same bytes, here and everywhere. Who changes the
// generator changes the hash, and with it what earlier figures mean.
func TestDeterminism(t *testing.T) {
	chain := func(seed uint64) string {
		var last events.Event
		for batch := range eventsgen.New(eventsgen.Options{Seed: seed, Events: 5000}).Batches(100) {
			last = batch[len(batch)-1]
		}
		return hex.EncodeToString(last.Chain[:])
	}
	const want = "105a01a8b6172ace4a99071ba3e424b4f340d62cb43ee57db73f5f547679d6bf"
	if got := chain(1); got != want {
		t.Errorf("the chain of seed 1 ends in %s, not %s", got, want)
	}
	if chain(2) == chain(1) {
		t.Error("the seed changes nothing")
	}
}

func BenchmarkGenerate(b *testing.B) {
	b.ReportAllocs()
	g := eventsgen.New(eventsgen.Options{Seed: 1, Events: uint64(b.N), Pods: 12_000})
	size := 0
	for ev, ok := g.Next(); ok; ev, ok = g.Next() {
		size += len(ev.Data) + len(ev.Note)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(size)/float64(b.N), "B/event")
}
