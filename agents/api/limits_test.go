package api_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// A LimitRange holds for the pod that comes right behind it, whoever creates that, and no
// longer once it is gone.
func limitsHoldAtOnce(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "limited")
	pods, limits := s.CoreV1().Pods("limited"), s.CoreV1().LimitRanges("limited")
	byGate := func(name string) error {
		p := pod("limited", name)
		p.APIVersion, p.Kind = "v1", "Pod"
		_, err := s.Gate().Do(ctx, events.Actor{Kind: "controller", Name: "replicaset"},
			runner.Command{Verb: runner.Create, Object: events.Ref{Resource: "pods", Namespace: "limited", Name: name}, Because: 1, Body: runner.Encode(p)})
		return err
	}
	asked := func(name, want string) {
		t.Helper()
		p, err := pods.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Spec.Containers[0].Resources.Requests.Cpu().String(); got != want {
			t.Errorf("%s asks for %s of CPU, and the limits say %s", name, got, want)
		}
	}
	create := func(name string) {
		t.Helper()
		if _, err := pods.Create(ctx, pod("limited", name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create("before")
	asked("before", "0")
	limit := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "cpu"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type:           corev1.LimitTypeContainer,
		DefaultRequest: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
		Max:            corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")},
		Default:        corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m")},
	}}}}
	if _, err := limits.Create(ctx, limit, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	create("by-request")
	if err := byGate("by-gate"); err != nil {
		t.Fatal(err)
	}
	asked("by-request", "100m")
	asked("by-gate", "100m")
	greedy := pod("limited", "greedy")
	greedy.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}
	if _, err := pods.Create(ctx, greedy, metav1.CreateOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "maximum cpu usage") {
		t.Errorf("a pod beyond the limits: %v", err)
	}
	if err := limits.Delete(ctx, "cpu", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create("after")
	asked("after", "0")
}
