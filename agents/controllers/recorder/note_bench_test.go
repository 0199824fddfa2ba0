package recorder

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
)

// A pod's life makes five notes.
func BenchmarkItem(b *testing.B) {
	n := note{
		About:  v1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "web-7c9-abcde", UID: "8c1b1f0e-7a55-4c8e-9a53-1d8d7c1f1a11", APIVersion: "v1", ResourceVersion: "812", FieldPath: "spec.containers{web}"},
		Reason: "Started", Message: `Container "web" <started> \u2028`, Component: "kubelet", Host: "n1", Sequence: 1 << 60,
	}
	b.ReportAllocs()
	for b.Loop() {
		item, _ := n.item()
		if got, ok := parseItem(runner.Item{Ref: item}); !ok || got != n {
			b.Fatalf("%v, %v", got, ok)
		}
	}
}
