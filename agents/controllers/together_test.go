package controllers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/agents/replay/replaytest"
)

// One cluster serves all of these: starting an API takes longer than they do.
func TestTogether(t *testing.T) {
	c := newCluster(t, "n1", "n2")
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Run("namespaces get their account and certificate", c.testNamespace)
	t.Run("roles get their parts", c.testRoles)
	t.Run("pods are bound, and people told", c.testBinding)
	t.Run("deletion of a Deployment", func(t *testing.T) {
		for _, p := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
			t.Run(string(p), func(t *testing.T) { c.testDeletion(t, p) })
		}
	})
	t.Run("custom objects own", c.testCustom)
	t.Run("a namespace goes with all that is in it", c.testNamespaceEnd)
	report := replaytest.Check(t, c.history.After(t, 0), replay.Options{})
	for _, agent := range report.Agents() {
		if agent.Equal == 0 && !strings.HasPrefix(agent.Agent, "node:") {
			t.Errorf("no decision of %s could be compared", agent.Agent)
		}
	}
}

func (c *cluster) testNamespace(t *testing.T) {
	for _, ns := range []string{"shop", "default", "kube-system"} {
		eventually(t, "the account of "+ns, func(ctx context.Context) string {
			_, err := c.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
			return text(err)
		})
		eventually(t, "the certificate in "+ns, func(ctx context.Context) string {
			m, err := c.CoreV1().ConfigMaps(ns).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
			if err == nil && m.Data["ca.crt"] == "" {
				return "it is empty"
			}
			return text(err)
		})
	}
}

func (c *cluster) testRoles(t *testing.T) {
	for _, role := range []string{"view", "edit", "admin"} {
		eventually(t, "the rules of "+role, func(ctx context.Context) string {
			r, err := c.RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{})
			if err == nil && len(r.Rules) == 0 {
				return "there are none"
			}
			return text(err)
		})
	}
}

// deploy makes a Deployment of three pods and waits until they run.
func (c *cluster) deploy(t *testing.T, name string) {
	t.Helper()
	three := int32(3)
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: &three, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "c", Image: "web", Resources: corev1.ResourceRequirements{Requests: quantities("cpu", "100m", "memory", "64Mi")},
			}}},
		}},
	}
	if _, err := c.AppsV1().Deployments("shop").Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rollout of "+name, func(ctx context.Context) string {
		d, err := c.AppsV1().Deployments("shop").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		return count(int(d.Status.AvailableReplicas), nil, 3)
	})
}

func (c *cluster) pods(ctx context.Context, app string) ([]corev1.Pod, error) {
	list, err := c.CoreV1().Pods("shop").List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (c *cluster) testBinding(t *testing.T) {
	c.deploy(t, "bound")
	pods, err := c.pods(t.Context(), "bound")
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]int{}
	for _, p := range pods {
		on[p.Spec.NodeName]++
	}
	if on["n1"] == 0 || on["n2"] == 0 {
		t.Errorf("three pods are spread over two nodes like this: %v", on)
	}
	if got := c.types(t, "pods/shop/"+pods[0].Name); got != "pod.created pod.bound pod.ready" {
		t.Errorf("the history of a pod is %s", got)
	}
	for _, reason := range []string{"Scheduled", "SuccessfulCreate", "ScalingReplicaSet"} {
		eventually(t, "an Event that says "+reason, func(ctx context.Context) string {
			list, err := c.CoreV1().Events("shop").List(ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
			if err == nil && len(list.Items) == 0 {
				return "there is none"
			}
			return text(err)
		})
	}
	big := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "big"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Image: "web", Resources: corev1.ResourceRequirements{Requests: quantities("cpu", "64")},
	}}}}
	if _, err := c.CoreV1().Pods("shop").Create(t.Context(), big, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message of a pod that fits nowhere", func(ctx context.Context) string {
		p, err := c.CoreV1().Pods("shop").Get(ctx, "big", metav1.GetOptions{})
		if err == nil && (len(p.Status.Conditions) != 1 || p.Status.Conditions[0].Message != "0/2 nodes are available: 2 Insufficient cpu.") {
			return fmt.Sprint(p.Status.Conditions)
		}
		return text(err)
	})
}

func (c *cluster) testDeletion(t *testing.T, p metav1.DeletionPropagation) {
	name := map[metav1.DeletionPropagation]string{
		metav1.DeletePropagationBackground: "background", metav1.DeletePropagationForeground: "foreground", metav1.DeletePropagationOrphan: "orphan",
	}[p]
	c.deploy(t, name)
	if err := c.AppsV1().Deployments("shop").Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &p}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the Deployment", func(ctx context.Context) string {
		_, err := c.AppsV1().Deployments("shop").Get(ctx, name, metav1.GetOptions{})
		return absent(err)
	})
	if p != metav1.DeletePropagationOrphan {
		eventually(t, "the end of the pods", func(ctx context.Context) string {
			pods, err := c.pods(ctx, name)
			return count(len(pods), err, 0)
		})
		sets, err := c.AppsV1().ReplicaSets("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if complaint := count(len(sets.Items), err, 0); complaint != "" {
			t.Errorf("ReplicaSets: %s", complaint)
		}
		return
	}
	sets, err := c.AppsV1().ReplicaSets("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if complaint := count(len(sets.Items), err, 1); complaint != "" || len(sets.Items[0].OwnerReferences) != 0 {
		t.Errorf("ReplicaSets: %s, owned by %v", complaint, sets.Items[0].OwnerReferences)
	}
	pods, err := c.pods(t.Context(), name)
	if complaint := count(len(pods), err, 3); complaint != "" {
		t.Errorf("pods: %s", complaint)
	}
}

var (
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	widgets     = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}
)

func (c *cluster) testCustom(t *testing.T) {
	definition := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com")
	definition.Object["spec"] = map[string]any{
		"group": "example.com", "scope": "Namespaced",
		"names": map[string]any{"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
		"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{
			"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
		}}},
	}
	if _, err := c.dynamic.Resource(definitions).Create(t.Context(), definition, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var owner *unstructured.Unstructured
	eventually(t, "the new resource", func(ctx context.Context) string {
		var err error
		owner, err = c.dynamic.Resource(widgets).Namespace("shop").Create(ctx, object("example.com/v1", "Widget", "w"), metav1.CreateOptions{})
		return text(err)
	})
	owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "of-w", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "example.com/v1", Kind: "Widget", Name: "w", UID: owner.GetUID()},
	}}}
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "foreign", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "metrics.example.org/v1", Kind: "Metric", Name: "m", UID: types.UID("none")},
	}}}
	for _, m := range []*corev1.ConfigMap{owned, foreign} {
		if _, err := c.CoreV1().ConfigMaps("shop").Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.dynamic.Resource(widgets).Namespace("shop").Delete(t.Context(), "w", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of what it owned", func(ctx context.Context) string {
		_, err := c.CoreV1().ConfigMaps("shop").Get(ctx, "of-w", metav1.GetOptions{})
		return absent(err)
	})
	if _, err := c.CoreV1().ConfigMaps("shop").Get(t.Context(), "foreign", metav1.GetOptions{}); err != nil {
		t.Errorf("the dependent of an unknown kind: %v", err)
	}
}

func (c *cluster) testNamespaceEnd(t *testing.T) {
	c.deploy(t, "last")
	if _, err := c.dynamic.Resource(widgets).Namespace("shop").Create(t.Context(), object("example.com/v1", "Widget", "last"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	held, err := c.CoreV1().ConfigMaps("shop").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/hold"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Namespaces().Delete(t.Context(), "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace says what it waits for", func(ctx context.Context) string {
		ns, err := c.CoreV1().Namespaces().Get(ctx, "shop", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		for _, condition := range ns.Status.Conditions {
			if condition.Type == corev1.NamespaceFinalizersRemaining && condition.Status == corev1.ConditionTrue {
				return ""
			}
		}
		return fmt.Sprint(ns.Status.Conditions)
	})
	if _, err := c.CoreV1().ConfigMaps("shop").Patch(t.Context(), held.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the namespace", func(ctx context.Context) string {
		_, err := c.CoreV1().Namespaces().Get(ctx, "shop", metav1.GetOptions{})
		return absent(err)
	})
	view := c.history.View()
	for r := range view.Resources() {
		for e := range view.List(r.Group, r.Resource, "shop") {
			if e.Ref.Namespace == "shop" {
				t.Errorf("left behind: %s", e.Ref)
			}
		}
	}
}

func object(apiVersion, kind, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}}}
}

// quantities makes a ResourceList of names and amounts.
func quantities(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func absent(err error) string {
	switch {
	case apierrors.IsNotFound(err):
		return ""
	case err == nil:
		return "it is still there"
	}
	return err.Error()
}
