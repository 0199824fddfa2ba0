package api_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

const collector = "system:serviceaccount:kube-system:generic-garbage-collector"

// deletions are the ways in which a pod may be deleted: what pod it is, and how it is
// asked for, in order.
var deletions = map[string]struct {
	as   func(*corev1.Pod)
	asks []runner.Command
}{
	"unbound":               {asks: []runner.Command{{}}},
	"bound":                 {as: bound, asks: []runner.Command{{}}},
	"twice":                 {as: bound, asks: []runner.Command{{}, {}}},
	"its own grace":         {as: func(p *corev1.Pod) { bound(p); p.Spec.TerminationGracePeriodSeconds = new(int64(7)) }, asks: []runner.Command{{}}},
	"another grace":         {as: bound, asks: []runner.Command{{GracePeriod: new(int64(5))}}},
	"a shorter one":         {as: bound, asks: []runner.Command{{}, {GracePeriod: new(int64(3))}}},
	"a longer one":          {as: bound, asks: []runner.Command{{}, {GracePeriod: new(int64(300))}}},
	"a grace below zero":    {as: bound, asks: []runner.Command{{GracePeriod: new(int64(-1))}}},
	"at once":               {as: bound, asks: []runner.Command{{GracePeriod: new(int64(0))}}},
	"then at once":          {as: bound, asks: []runner.Command{{}, {GracePeriod: new(int64(0))}}},
	"ended":                 {as: func(p *corev1.Pod) { bound(p); p.Status.Phase = corev1.PodSucceeded }, asks: []runner.Command{{}}},
	"foreground":            {as: bound, asks: []runner.Command{{Propagation: "Foreground"}, {GracePeriod: new(int64(0))}}},
	"orphan":                {as: bound, asks: []runner.Command{{Propagation: "Orphan"}}},
	"background":            {as: foreground, asks: []runner.Command{{Propagation: "Background"}}},
	"unbound, foreground":   {asks: []runner.Command{{Propagation: "Foreground"}, {}}},
	"a propagation unknown": {as: bound, asks: []runner.Command{{Propagation: "Sideways"}}},
	"a finalizer":           {as: func(p *corev1.Pod) { bound(p); p.Finalizers = []string{"example.com/kept"} }, asks: []runner.Command{{}, {GracePeriod: new(int64(0))}, {}}},
	"of this UID":           {as: bound, asks: []runner.Command{{UID: "its"}}},
	"of another UID":        {as: bound, asks: []runner.Command{{UID: "another"}}},
	"as it stands":          {as: bound, asks: []runner.Command{{UID: "its", Sequence: 1}, {Sequence: 2}}},
	"at once as it stands":  {asks: []runner.Command{{UID: "its", Sequence: 1}}},
}

func bound(p *corev1.Pod) { p.Spec.NodeName = "n1" }

func foreground(p *corev1.Pod) {
	bound(p)
	p.Finalizers = []string{metav1.FinalizerDeleteDependents, "example.com/kept"}
}

// deletedAlike deletes pods by the gate and by requests, which must come to the same.
func deletedAlike(t *testing.T, s *running) {
	s.namespace(t, "leaving")
	as := restclient.CopyConfig(s.admin)
	as.Impersonate = restclient.ImpersonationConfig{UserName: collector}
	other := kubernetes.NewForConfigOrDie(as)
	gate, actor := s.Gate(), events.Actor{Kind: "controller", Name: "garbage"}
	byGate := func(ctx context.Context, c runner.Command) error {
		c.Verb, c.Because = runner.Delete, 1
		_, err := gate.Do(ctx, actor, c)
		return err
	}
	byRequest := func(ctx context.Context, c runner.Command) error {
		err := other.CoreV1().Pods("leaving").Delete(ctx, c.Object.Name, optionsOf(c))
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) && c.UID == "another" {
			return nil // as the gate has it
		}
		return err
	}
	for name, d := range deletions {
		t.Run(name, func(t *testing.T) {
			// Each pod has a name of its own: requests begin with what the cache of the
			// API has by that name.
			n := s.history.Sequence()
			want, wantErrors := s.deleted(t, fmt.Sprint("by-request-", n), d.as, d.asks, byRequest)
			got, gotErrors := s.deleted(t, fmt.Sprint("by-gate-", n), d.as, d.asks, byGate)
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(gotErrors, wantErrors) {
				t.Errorf("by the gate:\n%s\nerrors %q\nby requests:\n%s\nerrors %q", strings.Join(got, "\n"), gotErrors, strings.Join(want, "\n"), wantErrors)
			}
			if len(want) == 0 && len(wantErrors) == 0 && name != "of another UID" {
				t.Error("nothing happened")
			}
		})
	}
}

func optionsOf(c runner.Command) metav1.DeleteOptions {
	o := metav1.DeleteOptions{GracePeriodSeconds: c.GracePeriod, Preconditions: &metav1.Preconditions{}}
	if c.Propagation != "" {
		o.PropagationPolicy = (*metav1.DeletionPropagation)(&c.Propagation)
	}
	if c.UID != "" {
		o.Preconditions.UID = (*types.UID)(&c.UID)
	}
	if c.Sequence != 0 {
		o.Preconditions.ResourceVersion = new(strconv.FormatUint(c.Sequence, 10))
	}
	return o
}

// deleted makes a pod and deletes it, and returns what the log has of that, and the
// reasons of refusals.
func (s *running) deleted(t *testing.T, name string, as func(*corev1.Pod), asks []runner.Command, ask func(context.Context, runner.Command) error) (told, refusals []string) {
	ctx := t.Context()
	pods := s.CoreV1().Pods("leaving")
	p := pod("leaving", name)
	p.Annotations = map[string]string{"what": "a<b>&c"}
	if as != nil {
		as(p)
	}
	made, err := pods.Create(ctx, p, metav1.CreateOptions{})
	if err == nil && p.Status.Phase != "" {
		made.Status.Phase = p.Status.Phase
		made, err = pods.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	began := s.history.Sequence()
	version, _ := strconv.ParseUint(made.ResourceVersion, 10, 64)
	for _, c := range asks {
		c.Object = events.Ref{Resource: "pods", Namespace: "leaving", Name: name}
		if c.UID == "its" {
			c.UID = string(made.UID)
		}
		if c.Sequence == 1 {
			c.Sequence = version
		}
		if err := ask(ctx, c); err != nil {
			refusals = append(refusals, impersonalText(reasonOf(err), made))
		}
	}
	for _, e := range s.about(t, began, "pods") {
		if e.Object.Name == name {
			told = append(told, impersonalText(fmt.Sprintf("%s %s by %s for %s: %s", e.Type, e.UID, e.Actor, e.User, e.Data), made))
		}
		if e.Audit == "" {
			t.Errorf("nobody knows what request made %s", e.Text())
		}
	}
	if e := s.history.View().Get(events.Ref{Resource: "pods", Namespace: "leaving", Name: name}); e != nil {
		told = append(told, impersonalText(string(e.Raw), made))
		s.forget(t, name)
	}
	return told, refusals
}

// forget removes a pod, whatever keeps it.
func (s *running) forget(t *testing.T, name string) {
	pods := s.CoreV1().Pods("leaving")
	_, err := pods.Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err == nil {
		err = pods.Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
}

func reasonOf(err error) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return fmt.Sprint(status.Status().Code, " ", status.Status().Reason, " ", status.Status().Message)
	}
	return err.Error()
}

var (
	record = regexp.MustCompile(`in record \(\d+\)`)
	times  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	tokens = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
)

func impersonalText(text string, p *corev1.Pod) string {
	text = strings.NewReplacer(p.Name, "NAME", string(p.UID), "UID").Replace(text)
	text = record.ReplaceAllString(text, "in record (VERSION)")
	return tokens.ReplaceAllString(times.ReplaceAllString(text, "TIME"), "TOKEN")
}

// refusedDeletions are those that the short way must refuse, as requests are.
func refusedDeletions(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "kept")
	pods := s.CoreV1().Pods("kept")
	made, err := pods.Create(ctx, pod("kept", "p"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := runner.Command{Verb: runner.Delete, Object: events.Ref{Resource: "pods", Namespace: "kept", Name: "p"}, UID: string(made.UID), Because: 1}
	before := s.history.Sequence()
	if _, err := s.Gate().Do(ctx, events.Actor{Kind: "controller", Name: "rootca"}, c); !apierrors.IsForbidden(err) {
		t.Errorf("a controller without the right: %v", err)
	}
	fail := admissionv1.Fail
	_, err = s.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "keep"},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Delete},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}}}},
			Validations: []admissionv1.Validation{{Expression: `oldObject.metadata.namespace != "kept" || request.options.kind != "DeleteOptions"`, Message: "it is kept"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "keep"},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "keep", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The admission learns of the policy by a watch of its own.
	dry := metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	for deadline := time.Now().Add(time.Minute); !apierrors.IsInvalid(err); err = pods.Delete(ctx, "p", dry) {
		if time.Now().After(deadline) {
			t.Fatalf("a policy is not heeded: %v", err)
		}
	}
	want := err.Error()
	if _, err := s.Gate().Do(ctx, events.Actor{Kind: "controller", Name: "garbage"}, c); err == nil || strings.ReplaceAll(err.Error(), "dry", "") != want {
		t.Errorf("refused with\n%v\nwhere a request is with\n%s", err, want)
	}
	if n := len(s.about(t, before, "pods")); n != 0 {
		t.Errorf("refused, and yet there are %d events", n)
	}
}
