package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// rulesHold has a quota and a policy come, each of which refuses the pods of a namespace
// whoever creates them, and go.
func rulesHold(t *testing.T, s *running) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.namespace(t, "ruled")
	made := 0
	ways := map[string]func(name string) error{
		"command": func(name string) error {
			_, err := s.Gate().Do(ctx, events.Actor{Kind: "controller", Name: "replicaset"}, create(t, pod("ruled", name), 0))
			return err
		},
		"request": func(name string) error {
			_, err := s.CoreV1().Pods("ruled").Create(ctx, pod("ruled", name), metav1.CreateOptions{})
			return err
		},
	}
	// until creates pods until they are refused for a reason or, if it is "", are not.
	until := func(reason string) {
		t.Helper()
		for way, do := range ways {
			for {
				made++
				err := do(fmt.Sprintf("%s-%d", way, made))
				if ctx.Err() != nil || err != nil && !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
					t.Fatalf("a %s: %v, want %q", way, err, reason)
				}
				if reason == "" && err == nil || reason != "" && err != nil && strings.Contains(err.Error(), reason) {
					break
				}
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	until("")

	quotas := s.CoreV1().ResourceQuotas("ruled")
	hard := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")}
	quota, err := quotas.Create(ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{})
	must(err)
	quota.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: hard} // as a controller counts
	_, err = quotas.UpdateStatus(ctx, quota, metav1.UpdateOptions{})
	must(err)
	until("exceeded quota: one")
	must(quotas.Delete(ctx, "one", metav1.DeleteOptions{}))
	until("")

	api := s.AdmissionregistrationV1()
	deny := []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	_, err = api.ValidatingAdmissionPolicies().Create(ctx, denying("ruled"), metav1.CreateOptions{})
	must(err)
	_, err = api.ValidatingAdmissionPolicyBindings().Create(ctx, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "ruled"}, Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "ruled", ValidationActions: deny},
	}, metav1.CreateOptions{})
	must(err)
	until("no pods here")
	must(api.ValidatingAdmissionPolicies().Delete(ctx, "ruled", metav1.DeleteOptions{}))
	until("")
	must(api.ValidatingAdmissionPolicyBindings().Delete(ctx, "ruled", metav1.DeleteOptions{}))
}

// denying is a policy that denies the pods of a namespace.
func denying(namespace string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	fail := admissionregistrationv1.Fail
	return &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: "no pods here"}},
		},
	}
}
