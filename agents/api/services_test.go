package api_test

import (
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Of services that are well nobody complains. Upstream's check of their addresses does, of
// one in two hundred, if all that it knows are its informers: this fails five times in six
// then.
func servicesHaveTheirAddresses(t *testing.T, s *running) {
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
	told, err := s.CoreV1().Events("services").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range told.Items {
		t.Errorf("%s: %s: %s", e.InvolvedObject.Name, e.Reason, e.Message)
	}
}
