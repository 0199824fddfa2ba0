package committer

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memlog"
)

// started is what a node says of a pod whose container runs.
const started = `[{"op":"replace","path":"/status/phase","value":"Running"},{"op":"add","path":"/status/podIP","value":"10.42.0.7"}]`

// BenchmarkPropose measures what the committer itself costs a pod: the judge, the
// chain and the loop, with a log in memory and 64 writers. Each creates and binds
// pods of common size, and says of each what its node would, that it runs. The index
// does not follow: all is in the overlay.
func BenchmarkPropose(b *testing.B) {
	raw, err := os.ReadFile("../testdata/pod.json")
	if err != nil {
		b.Fatal(err)
	}
	if raw, err = events.Canonical(raw); err != nil {
		b.Fatal(err)
	}
	if raw, err = events.Apply(raw, []byte(`[{"op":"remove","path":"/spec/nodeName"}]`)); err != nil {
		b.Fatal(err)
	}
	c := New(memlog.New(), newMemIndex(), Options{})
	go func() { _ = c.Run(b.Context()) }()
	<-c.Begun()
	var made atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			object := ref(fmt.Sprint("pod-", made.Add(1)))
			object.Resource = "pods"
			create := propose(events.Change{Type: "pod.created", Object: object, Data: raw})
			bound := propose(events.Change{Type: "pod.bound", Object: object, Data: []byte(`[{"op":"add","path":"/spec/nodeName","value":"node-17"}]`)})
			bound.Actor.Kind = "scheduler"
			started := propose(events.Change{Type: "container.started", Object: object, Data: []byte(started)})
			started.Actor = events.Actor{Kind: "node", Name: "node-17"}
			var last uint64
			for _, p := range []events.Proposal{create, bound, started} {
				if last > 0 {
					p.Expect = []events.Expectation{{Object: object, Sequence: last}}
				}
				receipt, err := c.Propose(b.Context(), p)
				if err != nil {
					b.Error(err)
					return
				}
				last = receipt.Last
			}
		}
	})
}
