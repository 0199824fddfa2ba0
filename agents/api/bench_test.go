package api_test

import (
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// BenchmarkCreate makes pods: over HTTPS as kubectl does, and through the gate
// as controllers do.
func BenchmarkCreate(b *testing.B) {
	s := start(b)
	s.namespace(b, "bench")
	b.Run("https", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			p := benchPod(fmt.Sprintf("https-%d-%d", b.N, i))
			if _, err := s.CoreV1().Pods("bench").Create(b.Context(), p, metav1.CreateOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("gate", func(b *testing.B) {
		b.ReportAllocs()
		gate, actor := s.Gate(), events.Actor{Kind: "controller", Name: "replicaset"}
		for i := range b.N {
			p := benchPod(fmt.Sprintf("gate-%d-%d", b.N, i))
			body, err := json.Marshal(p)
			if err != nil {
				b.Fatal(err)
			}
			c := runner.Command{Verb: runner.Create, Object: events.Ref{Resource: "pods", Namespace: "bench", Name: p.Name}, Body: body, Because: 1}
			if _, err := gate.Do(b.Context(), actor, c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := s.CoreV1().ConfigMaps("bench").List(b.Context(), metav1.ListOptions{}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if _, err := s.CoreV1().Namespaces().Patch(b.Context(), "bench", "application/merge-patch+json", []byte(fmt.Sprintf(`{"metadata":{"annotations":{"n":"%d"}}}`, b.Elapsed())), metav1.PatchOptions{}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

func benchPod(name string) *corev1.Pod {
	p := pod("bench", name)
	p.Labels = map[string]string{"app": "bench", "pod-template-hash": "5d9c7b9f6c"}
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}
	return p
}
