package api_test

import (
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// BenchmarkGatePods has 16 callers create the pods of one ReplicaSet through the
// gate, with all that follows in the server: the committer, the fold, the caches
// of the API. It reports the CPU time of the process for each.
func BenchmarkGatePods(b *testing.B) {
	s := start(b)
	s.namespace(b, "bench")
	gate, actor := s.Gate(), events.Actor{Kind: "controller", Name: "replicaset"}
	commands := make(chan runner.Command)
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for c := range commands {
				if _, err := gate.Do(b.Context(), actor, c); err != nil {
					b.Error(err)
				}
			}
		})
	}
	pod := replica()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for i := range b.N {
		pod.Name = pod.GenerateName + runner.NameSuffix(uint64(b.N), i)
		commands <- runner.Creation(events.Ref{Resource: "pods", Namespace: "bench", Name: pod.Name}, pod, 1)
	}
	close(commands)
	callers.Wait()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// replica is a pod as a ReplicaSet asks for it.
func replica() *corev1.Pod {
	yes := true
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "web-6d4cf56db6-", Namespace: "bench",
			Labels: map[string]string{"app": "web", "pod-template-hash": "6d4cf56db6"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-6d4cf56db6", UID: "0bd6f0b1-6a9f-4c0b-9a1a-3b0b0a9f0a11",
				Controller: &yes, BlockOwnerDeletion: &yes,
			}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "web", Image: "registry.example.com/shop/web:1.2.3",
			Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
			}},
		}}},
	}
}

func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
