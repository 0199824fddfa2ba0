package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/reprise-run/reprise/events"
)

// TestServer starts one server and does to it what clients do.
func TestServer(t *testing.T) {
	s := start(t)
	for name, test := range map[string]func(*testing.T, *running){
		"objects":         objectsRoundTrip,
		"watch":           watches,
		"typed":           changesBecomeFacts,
		"apply":           serverSideApply,
		"custom":          customResources,
		"denied":          roles,
		"invalid":         invalidLeavesNoTrace,
		"attributed":      everyEventIsAttributed,
		"volatile":        leasesStayOutOfHistory,
		"keys":            everyResourceHasItsPlace,
		"endpoints":       serverEndpoints,
		"gate":            gateCommands,
		"a gate for many": aGateForMany,
		"deleted alike":   deletedAlike,
		"refused":         refusedDeletions,
		"tokens":          tokensForPods,
		"webhooks":        mutatingWebhooks,
		"limits":          limitsHoldAtOnce,
		"rules":           rulesHold,
		"asking":          whoAsksCanBeNamed,
		"failing":         failuresReachTheClient,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func objectsRoundTrip(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "objects")
	maps := s.CoreV1().ConfigMaps("objects")
	made, err := maps.Create(ctx, config("a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := strconv.FormatUint(s.history.Sequence(), 10); made.ResourceVersion != want {
		t.Errorf("resource version %s, but the last sequence is %s", made.ResourceVersion, want)
	}
	if _, err := maps.Create(ctx, config("a"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("made twice: %v", err)
	}
	list, err := maps.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].UID != made.UID {
		t.Errorf("listed %v, %v", list.Items, err)
	}
	patched, err := maps.Patch(ctx, "a", types.MergePatchType, []byte(`{"data":{"k":"w"}}`), metav1.PatchOptions{})
	if err != nil || patched.Data["k"] != "w" {
		t.Fatalf("patched to %v, %v", patched, err)
	}
	before := s.history.Sequence()
	same, err := maps.Update(ctx, patched, metav1.UpdateOptions{})
	if err != nil || same.ResourceVersion != patched.ResourceVersion {
		t.Errorf("an update that changes nothing gave version %s after %s, %v", same.ResourceVersion, patched.ResourceVersion, err)
	}
	if n := len(s.about(t, before, "configmaps")); n != 0 {
		t.Errorf("an update that changes nothing appended %d events", n)
	}
	made.Data["k"] = "late"
	if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of an old version: %v", err)
	}
	if err := maps.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got what is deleted: %v", err)
	}
}

func watches(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "watch")
	maps := s.CoreV1().ConfigMaps("watch")
	first, err := maps.Create(ctx, config("a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: first.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	first.Data["k"] = "w"
	if _, err := maps.Update(ctx, first, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []watch.EventType{watch.Modified, watch.Deleted} {
		if e := <-w.ResultChan(); e.Type != want {
			t.Errorf("watched %v, want %s", e, want)
		}
	}
}

func deployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](3), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "demo:1"}}},
			},
		},
	}
}

func changesBecomeFacts(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "typed")
	before := s.history.Sequence()
	d := s.AppsV1().Deployments("typed")
	if _, err := d.Create(ctx, deployment("web"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scale, err := d.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas = 5
	if _, err := d.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	image := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"demo:2"}]}}}}`)
	if _, err := d.Patch(ctx, "web", types.StrategicMergePatchType, image, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(ctx, "web", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range s.about(t, before, "deployments.apps") {
		got = append(got, e.Type)
	}
	want := []string{"deployment.created", "deployment.scaled", "deployment.image-changed", "deployment.terminating"}
	if !slices.Equal(got, want) {
		t.Errorf("the log says %v, want %v", got, want)
	}
}

func serverSideApply(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "apply")
	d := s.AppsV1().Deployments("apply")
	if _, err := d.Create(ctx, deployment("web"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	mine := appsapply.Deployment("web", "apply").WithSpec(appsapply.DeploymentSpec().WithReplicas(7))
	if _, err := d.Apply(ctx, mine, metav1.ApplyOptions{FieldManager: "me"}); !apierrors.IsConflict(err) {
		t.Errorf("took another's field: %v", err)
	}
	got, err := d.Apply(ctx, mine, metav1.ApplyOptions{FieldManager: "me", Force: true})
	if err != nil || *got.Spec.Replicas != 7 {
		t.Fatalf("applied to %v, %v", got, err)
	}
	again, err := d.Apply(ctx, mine, metav1.ApplyOptions{FieldManager: "me", Force: true})
	if err != nil || again.ResourceVersion != got.ResourceVersion {
		t.Errorf("applied again: version %s after %s, %v", again.ResourceVersion, got.ResourceVersion, err)
	}
}

func customResources(t *testing.T, s *running) {
	ctx := t.Context()
	s.namespace(t, "custom")
	minReplicas := float64(1)
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": {
						Type: "object",
						Properties: map[string]apiextensionsv1.JSONSchemaProps{
							"size":  {Type: "integer", Minimum: &minReplicas},
							"limit": {Type: "integer", Default: &apiextensionsv1.JSON{Raw: []byte("10")}},
							"note":  {Type: "string", Nullable: true},
						},
						XValidations: apiextensionsv1.ValidationRules{{Rule: "self.size <= self.limit", Message: "too big"}},
					}},
				}},
			}},
		},
	}
	if _, err := apiextensions.NewForConfigOrDie(s.admin).ApiextensionsV1().CustomResourceDefinitions().Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	widgets := dynamic.NewForConfigOrDie(s.admin).Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}).Namespace("custom")
	widget := func(size int64) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "w"},
			"spec": map[string]any{"size": size, "note": nil},
		}}
	}
	made, err := widgets.Create(ctx, widget(3), metav1.CreateOptions{})
	for apierrors.IsNotFound(err) { // until it is served
		made, err = widgets.Create(ctx, widget(3), metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if limit, _, _ := unstructured.NestedInt64(made.Object, "spec", "limit"); limit != 10 {
		t.Errorf("the limit is %d and not the default", limit)
	}
	made.Object["spec"].(map[string]any)["size"] = int64(11)
	if _, err := widgets.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "too big") {
		t.Errorf("a rule was broken: %v", err)
	}
	list, err := widgets.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("listed %v, %v", list, err)
	}
	more := widget(4)
	more.SetName("w2")
	if _, err := widgets.Create(ctx, more, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	first, err := widgets.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.busy(t, "custom")
	last, err := widgets.List(ctx, metav1.ListOptions{Limit: 1, Continue: first.GetContinue()})
	if err != nil || len(last.Items) != 1 || last.Items[0].GetName() != "w2" || last.GetResourceVersion() != first.GetResourceVersion() {
		t.Errorf("after much has happened the second page has %v, %v", last, err)
	}
	if got := s.about(t, 0, "widgets.example.com"); len(got) != 2 || got[0].Type != "widget.created" || !strings.Contains(string(got[0].Data), `"note":null`) {
		t.Errorf("the log has %v", got)
	}
}

// busy has more happen, to one object of a namespace, than a projection keeps at hand.
func (r *running) busy(t testing.TB, namespace string) {
	t.Helper()
	made, err := r.CoreV1().ConfigMaps(namespace).Create(t.Context(), config("busy"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := events.Proposal{Actor: events.Actor{Kind: "api"}, User: "somebody", Audit: "busy"}
	for i := range 500 {
		p.Changes = append(p.Changes, events.Change{
			Type: "configmap.updated", Object: events.Ref{Resource: "configmaps", Namespace: namespace, Name: made.Name}, UID: string(made.UID),
			Data: fmt.Appendf(nil, `[{"op":"replace","path":"/data/k","value":"%d"}]`, i),
		})
	}
	for range 40 {
		if _, err := r.history.Propose(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

func roles(t *testing.T, s *running) {
	data, err := s.KubeconfigFor("eve", "people")
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	before := s.history.Sequence()
	eve := kubernetes.NewForConfigOrDie(c)
	if _, err := eve.CoreV1().ConfigMaps("default").Create(t.Context(), config("eve"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("eve was not refused: %v", err)
	}
	if _, err := eve.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("eve was not refused: %v", err)
	}
	if got := s.about(t, before, "configmaps"); len(got) > 0 {
		t.Errorf("a refused request left %v", got)
	}
}

func invalidLeavesNoTrace(t *testing.T, s *running) {
	s.namespace(t, "invalid")
	before := s.history.Sequence()
	bad := deployment("bad")
	bad.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
	_, err := s.AppsV1().Deployments("invalid").Create(t.Context(), bad, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "`selector` does not match template `labels`") {
		t.Errorf("an invalid Deployment: %v", err)
	}
	_, err = s.CoreV1().ConfigMaps("nowhere").Create(t.Context(), config("a"), metav1.CreateOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("a namespace that is not there: %v", err)
	}
	if got := s.about(t, before, "deployments.apps"); len(got) > 0 {
		t.Errorf("an invalid request left %v", got)
	}
}

func everyEventIsAttributed(t *testing.T, s *running) {
	for _, e := range s.history.After(t, 0) {
		if e.Actor.Kind != "api" || e.User == "" {
			t.Errorf("%s on %s is by %q for %q", e.Type, e.Object, e.Actor, e.User)
		}
		own := e.Sequence == 1 || e.Object.Resource == "ranges"
		if e.Audit == "" && !own {
			t.Errorf("%s on %s, of no request", e.Type, e.Object)
		}
	}
}

func leasesStayOutOfHistory(t *testing.T, s *running) {
	before := len(s.about(t, 0, "leases.coordination.k8s.io"))
	list, err := s.CoordinationV1().Leases("kube-system").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) < 2 || before != 0 {
		t.Errorf("%d leases, and %d events about leases in the history", len(list.Items), before)
	}
	_, err = s.CoreV1().Events("default").Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: "e"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(events.Items) != 1 {
		t.Errorf("listed %v, %v", events, err)
	}
}

func failuresReachTheClient(t *testing.T, s *running) {
	s.history.Fail(unavailable)
	defer s.history.Fail(nil)
	_, err := s.CoreV1().ConfigMaps("default").Create(t.Context(), config("late"), metav1.CreateOptions{})
	if !apierrors.IsServiceUnavailable(err) {
		t.Errorf("without a committer: %v", err)
	}
}

func serverEndpoints(t *testing.T, s *running) {
	for _, path := range []string{"/healthz", "/livez", "/readyz", "/metrics", "/version", "/openapi/v2", "/openapi/v3", "/.well-known/openid-configuration"} {
		body, err := s.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(context.Background())
		if err != nil || len(body) == 0 {
			t.Errorf("%s: %d bytes, %v", path, len(body), err)
		}
		if path == "/version" {
			var v struct{ Major, Minor string }
			if json.Unmarshal(body, &v) != nil || v.Major != "1" {
				t.Errorf("version %s", body)
			}
		}
	}
	resp, err := http.Get(strings.Replace(s.Address, "https", "http", 1) + "/healthz")
	if err == nil && resp.StatusCode == http.StatusOK {
		t.Error("answers without TLS")
	}
}
