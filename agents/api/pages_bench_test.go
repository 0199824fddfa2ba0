package api_test

import (
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// BenchmarkPages reads 4,000 pods over HTTPS, in one piece and in pages of 500 as kubectl
// does. It reports the CPU time of the process for each pod, the client's share included.
func BenchmarkPages(b *testing.B) {
	const pods = 4000
	s := start(b)
	s.namespace(b, "bench")
	gate, actor := s.Gate(), events.Actor{Kind: "controller", Name: "replicaset"}
	for i := range pods {
		p := benchPod(fmt.Sprintf("paged-%d", i))
		body, err := json.Marshal(p)
		if err != nil {
			b.Fatal(err)
		}
		c := runner.Command{Verb: runner.Create, Object: events.Ref{Resource: "pods", Namespace: "bench", Name: p.Name}, Body: body, Because: 1}
		if _, err := gate.Do(b.Context(), actor, c); err != nil {
			b.Fatal(err)
		}
	}
	client := connection(s.admin)
	for name, limit := range map[string]int64{"whole": 0, "paged": 500} {
		b.Run(name, func(b *testing.B) {
			before := cpu(b)
			for range b.N {
				read := 0
				for next := ""; ; {
					list := &corev1.PodList{}
					err := client.Get().Resource("pods").
						VersionedParams(&metav1.ListOptions{Limit: limit, Continue: next}, scheme.ParameterCodec).Do(b.Context()).Into(list)
					if err != nil {
						b.Fatal(err)
					}
					read += len(list.Items)
					if next = list.Continue; next == "" {
						break
					}
				}
				if read != pods {
					b.Fatalf("%d pods were read", read)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N)/pods, "cpu-us/pod")
		})
	}
}
