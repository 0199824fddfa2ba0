package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// BenchmarkDecide binds 1,000 pods of ten Deployments in one pass.
func BenchmarkDecide(b *testing.B) {
	for _, size := range []struct{ nodes, bound int }{{200, 0}, {1000, 0}, {1000, 10_000}, {5000, 10_000}} {
		b.Run(fmt.Sprintf("nodes=%d/bound=%d", size.nodes, size.bound), func(b *testing.B) {
			const waiting = 1000
			v := runner.View{Reader: cluster(size.nodes, size.bound, waiting)}
			s := New("")
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			decided := len(s.Decide(v, runner.Item{Ref: queue}, now).Decisions)
			if decided != waiting {
				b.Fatalf("%d decisions for %d pods", decided, waiting)
			}
			for b.Loop() {
				s.Decide(v, runner.Item{Ref: queue}, now)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/waiting, "µs/pod")
		})
	}
}

// BenchmarkOneWaits decides about one pod in clusters of several sizes in which, since the
// last decision, a pod of some node has changed.
func BenchmarkOneWaits(b *testing.B) {
	for _, size := range []struct{ nodes, bound int }{{200, 2000}, {1000, 20_000}, {5000, 100_000}} {
		b.Run(fmt.Sprintf("nodes=%d/bound=%d", size.nodes, size.bound), func(b *testing.B) {
			state := state(size.nodes, size.bound, 1)
			s := New("")
			item := runner.Item{Ref: queue}
			s.Decide(runner.View{Reader: state.View()}, item, time.Unix(0, 0))
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				ref := events.Ref{Resource: "pods", Namespace: "shop", Name: fmt.Sprintf("web-%d", i%size.bound)}
				e := state.View().Get(ref)
				state.Put(projections.NewEntry(ref, e.UID, e.Created, e.Sequence+1, e.Raw))
				i++
				if r := s.Decide(runner.View{Reader: state.View()}, item, time.Unix(0, 0)); len(r.Decisions) != 1 {
					b.Fatalf("%d decisions", len(r.Decisions))
				}
			}
		})
	}
}

func cluster(nodes, bound, waiting int) projections.Reader {
	return state(nodes, bound, waiting).View()
}

func state(nodes, bound, waiting int) *projections.State {
	s := projections.NewState()
	sequence := uint64(0)
	put := func(ref events.Ref, raw string) {
		sequence++
		doc, err := events.Canonical([]byte(raw))
		if err != nil {
			panic(err)
		}
		s.Put(projections.NewEntry(ref, fmt.Sprintf("u%d", sequence), sequence, sequence, doc))
	}
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		put(events.Ref{Resource: "nodes", Name: name}, fmt.Sprintf(`{"apiVersion":"v1","kind":"Node",
			"metadata":{"name":%q,"labels":{"kubernetes.io/hostname":%q,"disk":"ssd"}},"spec":{},
			"status":{"allocatable":{"cpu":"32","memory":"64Gi","pods":"110"}}}`, name, name))
	}
	pod := func(i int, node string) {
		name := fmt.Sprintf("web-%d", i)
		put(events.Ref{Resource: "pods", Namespace: "shop", Name: name}, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod",
			"metadata":{"name":%q,"namespace":"shop","labels":{"app":"web"}},
			"spec":{%s"containers":[{"name":"c","image":"web:%d","resources":{"requests":{"cpu":"100m","memory":"64Mi"}}}],
			"nodeSelector":{"disk":"ssd"},
			"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}]},
			"status":{"phase":"Pending","qosClass":"Burstable"}}`, name, node, i%10))
	}
	for i := range bound {
		pod(i, fmt.Sprintf(`"nodeName":"n%d",`, i%max(nodes, 1)))
	}
	for i := range waiting {
		pod(bound+i, "")
	}
	return s
}
