package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

var unavailable = fmt.Errorf("the test says so: %w", events.ErrUnavailable)

func pod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "demo:1"}}},
	}
}

func create(t testing.TB, o *corev1.Pod, because uint64) runner.Command {
	t.Helper()
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return runner.Command{
		Verb: runner.Create, Because: because, Body: body,
		Object: events.Ref{Resource: "pods", Namespace: o.Namespace, Name: o.Name},
	}
}

func gateCommands(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "gate")
	gate := s.Gate()
	replicasets := events.Actor{Kind: "controller", Name: "replicaset"}
	cause := s.history.Sequence()
	command := create(t, pod("gate", "p"), cause)
	sequence, err := gate.Do(ctx, replicasets, command)
	if err != nil {
		t.Fatal(err)
	}
	e := s.history.After(t, sequence-1)[0]
	if e.Type != "pod.created" || e.Cause != cause || e.User != "system:serviceaccount:kube-system:replicaset-controller" || e.Audit == "" {
		t.Errorf("the log has %s because %d for %q, request %q", e.Type, e.Cause, e.User, e.Audit)
	}
	if again, err := gate.Do(ctx, replicasets, command); again != 0 || err != nil {
		t.Errorf("made twice: %d, %v", again, err)
	}
	bad := pod("gate", "bad")
	bad.Spec.Containers = nil
	if _, err := gate.Do(ctx, replicasets, create(t, bad, cause)); !apierrors.IsInvalid(err) {
		t.Errorf("an invalid pod: %v", err)
	}
	if _, err := gate.Do(ctx, events.Actor{Kind: "controller", Name: "rootca"}, create(t, pod("gate", "other"), cause)); !apierrors.IsForbidden(err) {
		t.Errorf("a controller without the right: %v", err)
	}
	remove := runner.Command{Verb: runner.Delete, Object: command.Object, Because: sequence, UID: "another"}
	if n, err := gate.Do(ctx, replicasets, remove); n != 0 || err != nil {
		t.Errorf("deleted another: %d, %v", n, err)
	}
	remove.UID = e.UID
	gone, err := gate.Do(ctx, replicasets, remove)
	if err != nil || gone <= sequence {
		t.Fatalf("deleted at %d, %v", gone, err)
	}
	if e := s.history.After(t, gone-1)[0]; e.Object != command.Object || e.Cause != sequence {
		t.Errorf("the log has %s on %s because %d", e.Type, e.Object, e.Cause)
	}
	if n, err := gate.Do(ctx, replicasets, remove); n != 0 || err != nil {
		t.Errorf("deleted twice: %d, %v", n, err)
	}
}

func tokensForPods(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "tokens")
	_, err := s.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := pod("tokens", "p")
	p.Spec.NodeName = "n1"
	made, err := s.CoreV1().Pods("tokens").Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: made.UID},
	}}
	// The authorizer learns of the pod by a watch of its own.
	token, err := s.Token(ctx, "n1", "tokens", "default", req)
	for apierrors.IsForbidden(err) {
		token, err = s.Token(ctx, "n1", "tokens", "default", req)
	}
	if err != nil {
		t.Fatal(err)
	}
	review, err := s.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token},
	}, metav1.CreateOptions{})
	if err != nil || !review.Status.Authenticated || review.Status.User.Username != "system:serviceaccount:tokens:default" {
		t.Errorf("the token is for %v, %v", review.Status, err)
	}
	if _, err := s.Token(ctx, "n2", "tokens", "default", req); !apierrors.IsForbidden(err) {
		t.Errorf("another node got a token: %v", err)
	}
}

// aGateForMany has pods of one ReplicaSet made: the first by a request, the others
// by the short way, which must come to the same and hold to the same rules.
func aGateForMany(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "many")
	gate, actor := s.Gate(), events.Actor{Kind: "controller", Name: "replicaset"}
	p := replica()
	p.Namespace = "many"
	make := func(name string) (events.Event, error) {
		p.Name = name
		before := s.history.Sequence()
		ref := events.Ref{Resource: "pods", Namespace: "many", Name: name}
		if _, err := gate.Do(ctx, actor, runner.Creation(ref, p, before)); err != nil {
			return events.Event{}, err
		}
		made := s.about(t, before, "pods")
		if len(made) != 1 {
			t.Fatalf("%d events on pods", len(made))
		}
		return made[0], nil
	}
	var made [5]events.Event
	for i := range made {
		var err error
		if made[i], err = make(fmt.Sprintf("web-6d4cf56db6-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range made[1:] {
		first := made[0]
		if e.Audit == "" || e.Audit == first.Audit || e.UID == first.UID || e.UID == "" || e.Cause == 0 || e.User != first.User || e.Type != first.Type || e.Actor != first.Actor {
			t.Errorf("made by the short way: %s, by a request: %s", e.Text(), first.Text())
		}
		if got, want := impersonal(t, e.Data), impersonal(t, first.Data); got != want {
			t.Errorf("made by the short way:\n%s\nby a request:\n%s", got, want)
		}
	}
	p.Name = made[1].Object.Name
	if again, err := gate.Do(ctx, actor, runner.Creation(made[1].Object, p, 1)); again != 0 || err != nil {
		t.Errorf("made twice: %d, %v", again, err)
	}
	if _, err := make("no_name"); !apierrors.IsInvalid(err) {
		t.Errorf("a name that validation must refuse: %v", err)
	}
	if _, err := gate.Do(ctx, events.Actor{Kind: "controller", Name: "rootca"}, runner.Creation(events.Ref{Resource: "pods", Namespace: "many", Name: p.Name}, p, 1)); !apierrors.IsForbidden(err) {
		t.Errorf("a controller without the right: %v", err)
	}
	limit := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
	}}}}
	_, err := s.CoreV1().LimitRanges("many").Create(ctx, limit, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The admission learns of the limit by a watch of its own, and then limits what
	// asks for more.
	for deadline := time.Now().Add(time.Minute); !apierrors.IsInvalid(err); {
		if time.Now().After(deadline) {
			t.Fatalf("a pod over the limit: %v", err)
		}
		_, err = make("web-6d4cf56db6-" + runner.NameSuffix(s.history.Sequence(), 0))
	}
}

// impersonal is a pod without what no two pods have in common.
func impersonal(t *testing.T, raw []byte) string {
	t.Helper()
	var p corev1.Pod
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	random := strings.TrimPrefix(p.Spec.Volumes[0].Name, "kube-api-access-")
	text := strings.NewReplacer(p.Name, "NAME", string(p.UID), "UID", random, "RANDOM", p.CreationTimestamp.UTC().Format(time.RFC3339), "TIME").Replace(string(raw))
	return text
}
