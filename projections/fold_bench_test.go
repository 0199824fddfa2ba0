package projections_test

import (
	"fmt"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// BenchmarkFold folds the creation of pods, and their being bound, in groups as the
// committer makes them when little, or much, is asked of it. Each group is shown.
func BenchmarkFold(b *testing.B) {
	for _, group := range []int{1, 16, 256} {
		b.Run(fmt.Sprint("groups of ", group), func(b *testing.B) {
			s := projections.NewState()
			made := 0
			next := func() (batch []events.Event) {
				for range group {
					made++
					batch = append(batch, created(uint64(2*made-1), made), bound(uint64(2*made), made))
				}
				return batch
			}
			fold := func() {
				if _, err := s.Fold(next()); err != nil {
					b.Fatal(err)
				}
				s.View()
			}
			for made < 20_000 {
				fold()
			}
			b.ReportAllocs()
			b.ResetTimer() // who were there before are not what is measured
			for until := made + b.N; made < until; {
				fold()
			}
		})
	}
}

func created(sequence uint64, n int) events.Event {
	object := podNumber(n)
	return events.Event{
		Sequence: sequence, Type: "pod.created", Object: object, UID: fmt.Sprint("u", n), Actor: events.Actor{Kind: "api"},
		Data: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"app":"web"},"name":%q,"namespace":"shop","ownerReferences":[{"apiVersion":"apps/v1","controller":true,"kind":"ReplicaSet","name":"web","uid":"0bd6f0b1-6a9f-4c0b-9a1a-3b0b0a9f%04d"}],"uid":"u%d"},"spec":{"containers":[{"image":"registry.example.com/shop/web:1.2.3","name":"web","ports":[{"containerPort":8080,"protocol":"TCP"}]}],"priority":0},"status":{"phase":"Pending"}}`,
			object.Name, n%50, n),
	}
}

func bound(sequence uint64, n int) events.Event {
	return events.Event{
		Sequence: sequence, Type: "pod.bound", Object: podNumber(n), UID: fmt.Sprint("u", n), Actor: events.Actor{Kind: "scheduler"},
		Data: fmt.Appendf(nil, `[{"op":"add","path":"/spec/nodeName","value":"node-%03d"}]`, n%200),
	}
}

// podNumber is a pod whose name lies anywhere among the others'.
func podNumber(n int) events.Ref {
	return events.Ref{Resource: "pods", Namespace: "shop", Name: fmt.Sprintf("web-%08x", uint32(n)*2654435761)}
}
