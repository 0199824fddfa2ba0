package committer

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memlog"
)

// BenchmarkPropose measures what the committer itself costs an event: the judge,
// the chain and the loop, with a log in memory and 64 writers that each create
// and bind pods of common size. The index does not follow: all is in the overlay.
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
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			object := ref(fmt.Sprint("pod-", made.Add(1)))
			object.Resource = "pods"
			create := propose(events.Change{Type: "pod.created", Object: object, Data: raw})
			bound := propose(events.Change{Type: "pod.bound", Object: object, Data: []byte(`[{"op":"add","path":"/spec/nodeName","value":"node-17"}]`)})
			bound.Actor.Kind = "scheduler"
			receipt, err := c.Propose(b.Context(), create)
			if err == nil {
				bound.Expect = []events.Expectation{{Object: object, Sequence: receipt.Last}}
				_, err = c.Propose(b.Context(), bound)
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}
