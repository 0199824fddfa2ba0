package feed

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

func TestNeeds(t *testing.T) {
	e := projections.NewEntry(projectionstest.Pod("shop", "web"), "u", 1, 1, []byte(`{"metadata":{"name":"web","namespace":"shop"},"spec":{
		"serviceAccountName":"sa","runtimeClassName":"slow","imagePullSecrets":[{"name":"pull"}],
		"initContainers":[{"name":"i","envFrom":[{"secretRef":{"name":"env"}}]}],
		"containers":[{"name":"c","env":[{"name":"X","valueFrom":{"configMapKeyRef":{"name":"cm","key":"x"}}}]}],
		"volumes":[
			{"name":"claim","persistentVolumeClaim":{"claimName":"data"}},
			{"name":"scratch","ephemeral":{}},
			{"name":"all","projected":{"sources":[{"secret":{"name":"proj"}},{"configMap":{"name":"root"}},{"serviceAccountToken":{"path":"t"}}]}}
		]}}`))
	want := []string{
		"configmaps/shop/cm", "configmaps/shop/root", "namespaces/shop", "persistentvolumeclaims/shop/data",
		"persistentvolumeclaims/shop/web-scratch", "runtimeclasses.node.k8s.io/slow", "secrets/shop/env", "secrets/shop/proj", "secrets/shop/pull",
		"serviceaccounts/shop/sa", "services/default/kubernetes", "services/shop/",
	}
	if got := text(Needs(e)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	claim := projections.NewEntry(events.Ref{Resource: "persistentvolumeclaims", Namespace: "shop", Name: "data"}, "u", 1, 1, []byte(`{"metadata":{},"spec":{"volumeName":"pv1"}}`))
	volume := projections.NewEntry(events.Ref{Resource: "persistentvolumes", Name: "pv1"}, "u", 1, 1, []byte(`{"metadata":{},"spec":{"csi":{"driver":"d","volumeHandle":"h","nodePublishSecretRef":{"name":"s","namespace":"vault"}}}}`))
	if got := text(append(Needs(claim), Needs(volume)...)); !slices.Equal(got, []string{"persistentvolumes/pv1", "secrets/vault/s"}) {
		t.Errorf("got %q", got)
	}
	for _, other := range []string{"secrets", "configmaps", "services"} {
		if got := Needs(projections.NewEntry(events.Ref{Resource: other, Namespace: "a", Name: "b"}, "u", 1, 1, []byte(`{"metadata":{}}`))); got != nil {
			t.Errorf("%s need %v", other, got)
		}
	}
}

func text(refs []events.Ref) []string {
	var out []string
	for _, r := range refs {
		out = append(out, r.String())
	}
	slices.Sort(out)
	return out
}

// world makes random changes to a small cluster.
type world struct {
	rng   *rand.Rand
	state *projections.State
	next  uint64
}

func (w *world) pick(of ...string) string { return of[w.rng.IntN(len(of))] }

func (w *world) step() projections.Change {
	w.next++
	ns, n := w.pick("a", "b"), w.pick("1", "2", "3")
	ref := events.Ref{Resource: w.pick("pods", "pods", "pods", "secrets", "configmaps", "persistentvolumeclaims", "persistentvolumes", "services", "namespaces", "nodes", "endpointslices"), Namespace: ns, Name: n}
	switch ref.Resource {
	case "persistentvolumes":
		ref.Namespace, ref.Name = "", "v"+n
	case "namespaces":
		ref.Namespace, ref.Name = "", ns
	case "nodes":
		ref.Namespace, ref.Name = "", "n"+n
	case "endpointslices":
		ref.Group = "discovery.k8s.io"
	}
	change := projections.Change{Event: &events.Event{Sequence: w.next, Object: ref}, Before: w.state.View().Get(ref)}
	if change.Before != nil && w.rng.IntN(3) == 0 {
		w.state.Remove(ref)
	} else {
		change.After = projections.NewEntry(ref, "u", w.next, w.next, []byte(w.doc(ref, change.Before)))
		w.state.Put(change.After)
	}
	w.state.StartAt(w.next)
	return change
}

func (w *world) doc(ref events.Ref, before *projections.Entry) string {
	meta := fmt.Sprintf(`"metadata":{"name":%q,"namespace":%q}`, ref.Name, ref.Namespace)
	switch ref.Resource {
	case "pods":
		node := w.pick("", "n1", "n2")
		if before != nil {
			if bound := projections.As[v1.Pod](before).Spec.NodeName; bound != "" {
				node = bound
			}
		}
		return fmt.Sprintf(`{%s,"spec":{"nodeName":%q,"containers":[{"name":"c","envFrom":[{"secretRef":{"name":%q}},{"configMapRef":{"name":%q}}]}],"volumes":[{"name":"d","persistentVolumeClaim":{"claimName":%q}}]}}`,
			meta, node, w.pick("1", "2", "3"), w.pick("1", "2", "3"), w.pick("1", "2", "3"))
	case "persistentvolumeclaims":
		return fmt.Sprintf(`{%s,"spec":{"volumeName":%q}}`, meta, w.pick("", "v1", "v2"))
	case "persistentvolumes":
		return fmt.Sprintf(`{%s,"spec":{"csi":{"driver":"d","volumeHandle":"h","nodeStageSecretRef":{"namespace":%q,"name":%q}}}}`, meta, w.pick("a", "b"), w.pick("1", "2", "3"))
	}
	return "{" + meta + "}"
}

// What a node was told bit by bit must be what it would be told at once.
func TestToldBitByBit(t *testing.T) {
	for seed := range uint64(200) {
		w := &world{rng: rand.New(rand.NewPCG(seed, 0)), state: projections.NewState()}
		nodes := map[string]bool{"n1": false, "n2": true}
		a := newAudience()
		knows := map[string]map[events.Ref]uint64{}
		hear := func(node string, d delta) {
			for _, e := range d.puts {
				knows[node][e.Ref] = e.Sequence
			}
			for _, r := range d.removes {
				if _, ok := knows[node][r]; !ok {
					t.Fatalf("seed %d: %s is told to forget %s, which it does not know", seed, node, r)
				}
				delete(knows[node], r)
			}
		}
		for range 60 {
			var changes []projections.Change
			view := w.state.View()
			for range 1 + w.rng.IntN(4) {
				changes = append(changes, w.step())
				view = w.state.View()
			}
			for node, network := range nodes {
				if w.rng.IntN(10) == 0 {
					// In between, the feed of a node begins anew, on a view that is ahead.
					knows[node] = map[events.Ref]uint64{}
					hear(node, a.join(view, node, network))
				}
			}
			for node, d := range a.fold(view, changes) {
				hear(node, d)
			}
		}
		for node := range knows {
			want := map[events.Ref]uint64{}
			for _, e := range newAudience().join(w.state.View(), node, nodes[node]).puts {
				want[e.Ref] = e.Sequence
			}
			if !maps.Equal(knows[node], want) {
				t.Fatalf("seed %d: %s knows\n%v\nand should know\n%v", seed, node, knows[node], want)
			}
		}
		for node := range nodes {
			if a.members[node] == nil {
				continue // It never joined.
			}
			counted := map[*needs]int{}
			for _, s := range a.members[node].stakes {
				if s.needs != nil {
					counted[s.needs]++
				}
			}
			if !maps.Equal(counted, a.members[node].reasons) {
				t.Fatalf("seed %d: %s counts %v, and has %v", seed, node, a.members[node].reasons, counted)
			}
			a.leave(node)
		}
		maps.DeleteFunc(a.wide, func(_ resource, n int) bool { return n == 0 })
		if len(a.wanters) != 0 || len(a.wide) != 0 {
			t.Fatalf("seed %d: left over: %v, %v", seed, a.wanters, a.wide)
		}
	}
}

// What two pods of a node need is known until the second has gone.
func TestNeedsThatAreShared(t *testing.T) {
	state := projections.NewState()
	a := newAudience()
	a.join(state.View(), "n1", false)
	sequence := uint64(0)
	change := func(ref events.Ref, doc string) delta {
		sequence++
		c := projections.Change{Event: &events.Event{Sequence: sequence, Object: ref}, Before: state.View().Get(ref)}
		if doc == "" {
			state.Remove(ref)
		} else {
			c.After = projections.NewEntry(ref, "u", sequence, sequence, []byte(doc))
			state.Put(c.After)
		}
		state.StartAt(sequence)
		return a.fold(state.View(), []projections.Change{c})["n1"]
	}
	const pod = `{"metadata":{"namespace":"a"},"spec":{"nodeName":"n1","containers":[{"name":"c","envFrom":[{"secretRef":{"name":"s"}}]}]}}`
	secret := events.Ref{Resource: "secrets", Namespace: "a", Name: "s"}
	one, two := projectionstest.Pod("a", "one"), projectionstest.Pod("a", "two")
	change(secret, `{"metadata":{}}`)
	for _, ref := range []events.Ref{one, two} {
		change(ref, pod)
	}
	if m := a.members["n1"]; len(m.reasons) != 1 || m.reasons[m.stakes[one].needs] != 2 {
		t.Fatalf("two pods that need the same are counted as %v", m.reasons)
	}
	if d := change(one, ""); !slices.Equal(text(d.removes), []string{"pods/a/one"}) {
		t.Errorf("when one of two pods is gone %q go", text(d.removes))
	}
	if d := change(two, ""); !slices.Equal(text(d.removes), []string{"pods/a/two", "secrets/a/s"}) {
		t.Errorf("when the other is gone too %q go", text(d.removes))
	}
	if m := a.members["n1"]; len(m.reasons) != 0 {
		t.Errorf("left over: %v", m.reasons)
	}
}

func BenchmarkFold(b *testing.B) {
	for _, nodes := range []int{100, 5000} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			state := projections.NewState()
			a := newAudience()
			for n := range nodes {
				a.join(state.View(), fmt.Sprintf("n%d", n), false)
			}
			sequence := uint64(0)
			for b.Loop() {
				sequence++
				ref := projectionstest.Pod("a", fmt.Sprintf("p%d", sequence))
				raw := fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"a"},"spec":{"nodeName":"n%d","serviceAccountName":"sa","containers":[{"name":"c"}]}}`, ref.Name, sequence%uint64(nodes))
				c := projections.Change{Event: &events.Event{Sequence: sequence, Object: ref}, After: projections.NewEntry(ref, "u", sequence, sequence, []byte(raw))}
				state.Put(c.After)
				state.StartAt(sequence)
				a.fold(state.View(), []projections.Change{c})
			}
		})
	}
}

// BenchmarkAudience tells the nodes of a pod: when it is bound, and later of three changes of
// its status at once. Each node has 20 pods. Sixteen pods come at a time, each with a note.
func BenchmarkAudience(b *testing.B) {
	for _, nodes := range []int{100, 5_000} {
		b.Run(fmt.Sprint(nodes, " nodes"), func(b *testing.B) {
			s := projections.NewState()
			a := newAudience()
			for n := range nodes {
				a.join(s.View(), fmt.Sprint("node-", n), true)
			}
			made, sequence := 0, uint64(0)
			change := func(ref events.Ref, doc string) projections.Change {
				sequence++
				c := projections.Change{Event: &events.Event{Sequence: sequence, Object: ref}, Before: s.View().Get(ref)}
				c.After = projections.NewEntry(ref, "u", sequence, sequence, []byte(doc))
				s.Put(c.After)
				s.StartAt(sequence)
				return c
			}
			pod := func(node, status string) string {
				return fmt.Sprintf(`{"metadata":{"namespace":"shop"},"spec":{"containers":[{"name":"c"}],"nodeName":%q,"serviceAccountName":"default","volumes":[{"name":"t","projected":{"sources":[{"configMap":{"name":"kube-root-ca.crt"}}]}}]},"status":{"phase":%q}}`, node, status)
			}
			step := func(group int) [][]projections.Change {
				var bound, ready []projections.Change
				for range group {
					made++
					ref := projectionstest.Pod("shop", fmt.Sprintf("web-%08x", uint32(made)*2654435761))
					node := fmt.Sprint("node-", made*7919%nodes)
					change(ref, pod("", "Pending"))
					bound = append(bound, change(ref, pod(node, "Pending")))
					for _, status := range []string{"a", "b", "c"} {
						ready = append(ready, change(ref, pod(node, status)))
					}
					ready = append(ready, change(events.Ref{Resource: "events", Namespace: "shop", Name: ref.Name}, `{"metadata":{}}`))
				}
				return [][]projections.Change{bound, ready}
			}
			for made < 20*nodes {
				for _, changes := range step(500) {
					a.fold(s.View(), changes)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for until := made + b.N; made < until; {
				b.StopTimer()
				both := step(16)
				b.StartTimer()
				for _, changes := range both {
					a.fold(s.View(), changes)
				}
			}
		})
	}
}
