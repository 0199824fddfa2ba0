package api_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// mutatingWebhooks has a webhook that cannot be reached, and so refuses all pods of a
// namespace, come and go. Commands of this process are judged by it as requests are.
func mutatingWebhooks(t *testing.T, s *running) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.namespace(t, "hooked")
	replicasets := events.Actor{Kind: "controller", Name: "replicaset"}
	made := 0
	command := func() error {
		made++
		_, err := s.Gate().Do(ctx, replicasets, create(t, pod("hooked", fmt.Sprintf("command-%d", made)), 0))
		return err
	}
	request := func() error {
		made++
		_, err := s.CoreV1().Pods("hooked").Create(ctx, pod("hooked", fmt.Sprintf("request-%d", made)), metav1.CreateOptions{})
		return err
	}
	until := func(what string, do func() error, refused bool) {
		t.Helper()
		for {
			err := do()
			if ctx.Err() != nil || err != nil && !apierrors.IsInternalError(err) {
				t.Fatalf("%s: %v", what, err)
			}
			if refused == (err != nil) {
				return
			}
		}
	}
	until("a command before", command, false)
	if _, err := s.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, unreachable("hooked"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until("a command with a webhook", command, true)
	until("a request with a webhook", request, true)
	if err := s.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, "hooked", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := request(); err != nil {
		t.Errorf("a request after the webhook: %v", err)
	}
	if err := command(); err != nil {
		t.Errorf("a command after the webhook: %v", err)
	}
}

// unreachable is a webhook for the pods of a namespace, at an address where nobody is.
func unreachable(namespace string) *admissionregistrationv1.MutatingWebhookConfiguration {
	url, none, fail := "https://127.0.0.1:1/", admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "pods.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail,
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &url},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
}
