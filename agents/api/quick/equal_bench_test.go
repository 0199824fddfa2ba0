package quick_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/reprise-run/reprise/agents/api/quick"
)

// BenchmarkEqual compares a pod with its copy.
func BenchmarkEqual(b *testing.B) {
	pod := &core.Pod{Spec: core.PodSpec{
		SecurityContext: &core.PodSecurityContext{}, Tolerations: []core.Toleration{{Key: "a"}, {Key: "b"}},
		Containers: []core.Container{{
			Name: "a", Args: []string{"b"}, SecurityContext: &core.SecurityContext{},
			Resources: core.ResourceRequirements{Requests: core.ResourceList{core.ResourceName(corev1.ResourceCPU): resource.MustParse("100m")}},
		}},
	}}
	other := pod.DeepCopy()
	b.ReportAllocs()
	for b.Loop() {
		if !quick.Equal(pod, other) {
			b.Fatal("they differ")
		}
	}
}
