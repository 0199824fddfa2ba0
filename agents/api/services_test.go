package api_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
)

// Of services that are well nobody complains. Upstream's check of their addresses does, of
// one in two hundred, if all that it knows are its informers: this fails five times in six
// then. What it has to say comes before what it says of an address that is nobody's.
func TestServicesHaveTheirAddresses(t *testing.T) {
	s := start(t)
	s.namespace(t, "services")
	var writers errgroup.Group
	for w := range 4 {
		writers.Go(func() error {
			for i := range 100 {
				service := &corev1.Service{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d-%d", w, i)},
					Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
				}
				if _, err := s.CoreV1().Services("services").Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := writers.Wait(); err != nil {
		t.Fatal(err)
	}
	stray := &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: "10.43.255.250", Labels: map[string]string{
			networkingv1.LabelManagedBy: ipallocator.ControllerName, networkingv1.LabelIPAddressFamily: "IPv4",
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "pods", Namespace: "services", Name: "none"}},
	}
	if _, err := s.NetworkingV1().IPAddresses().Create(t.Context(), stray, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var told *corev1.EventList
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (said bool, err error) {
		told, err = s.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(told.Items, func(e corev1.Event) bool { return e.InvolvedObject.Name == stray.Name }), nil
	})
	if err != nil {
		t.Fatalf("of %s, which belongs to a pod, it was not said that it is nobody's: %v", stray.Name, err)
	}
	for _, e := range told.Items {
		if e.InvolvedObject.Namespace == "services" {
			t.Errorf("%s: %s: %s", e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
}
