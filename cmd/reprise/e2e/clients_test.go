//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/clientcmd"
)

// TestClients shows that Helm and client-go work as they are.
func TestClients(t *testing.T) {
	c := newCluster(t)
	t.Run("helm", func(t *testing.T) { testHelm(t, c) })
	t.Run("client-go with a custom resource", func(t *testing.T) { testCustomResource(t, c) })
	t.Run("an API server behind ours", func(t *testing.T) { testAggregation(t, c) })
	t.Run("images without a registry", func(t *testing.T) { testImages(t, c) })
}

func testHelm(t *testing.T, c *cluster) {
	const chart = "testdata/chart"
	replicas := []string{"get", "deployment/shop-web", "-o", "jsonpath={.status.readyReplicas}"}
	c.must("helm", "install", "shop", chart, "--wait", "--timeout=2m")
	c.eventuallyPrints("1", replicas...)
	c.must("helm", "upgrade", "shop", chart, "--set", "replicas=2", "--wait", "--timeout=2m")
	c.eventuallyPrints("2", replicas...)
	c.must("helm", "rollback", "shop", "1", "--wait", "--timeout=2m")
	c.eventuallyPrints("1", replicas...)
	c.must("helm", "uninstall", "shop", "--wait", "--timeout=2m")
	c.eventuallyPrints("", "get", "deployments,configmaps", "-l", "app.kubernetes.io/instance=shop", "-o", "name")
}

const bakery = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: loaves.bakery.example.com}
spec:
  group: bakery.example.com
  scope: Namespaced
  names: {plural: loaves, singular: loaf, kind: Loaf}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              grams: {type: integer, default: 500}
              flour: {type: string}
            x-kubernetes-validations:
            - rule: "self.grams <= 2000"
              message: no oven is that big
`

func testCustomResource(t *testing.T, c *cluster) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.apply(bakery)
	c.kubectl("wait", "--for=condition=Established", "crd/loaves.bakery.example.com", "--timeout=1m")

	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	resource := schema.GroupVersionResource{Group: "bakery.example.com", Version: "v1", Resource: "loaves"}
	loaf := func(name string, grams any) *unstructured.Unstructured {
		spec := map[string]any{"flour": "rye"}
		if grams != nil {
			spec["grams"] = grams
		}
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "bakery.example.com/v1", "kind": "Loaf",
			"metadata": map[string]any{"name": name, "namespace": "default"}, "spec": spec,
		}}
	}
	informers := dynamicinformer.NewDynamicSharedInformerFactory(client, 0)
	lister := informers.ForResource(resource).Lister()
	informers.Start(ctx.Done())
	informers.WaitForCacheSync(ctx.Done())

	loaves := client.Resource(resource).Namespace("default")
	made, err := loaves.Create(ctx, loaf("country", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if grams, _, _ := unstructured.NestedInt64(made.Object, "spec", "grams"); grams != 500 {
		t.Errorf("the default was not applied: %v", made.Object["spec"])
	}
	c.eventually("the informer has seen the loaf", func() error {
		_, err := lister.ByNamespace("default").Get("country")
		return err
	})
	_, err = loaves.Create(ctx, loaf("giant", int64(9000)), metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "no oven is that big") {
		t.Errorf("the CEL rule did not refuse: %v", err)
	}
	if err := loaves.Delete(ctx, "country", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the informer has seen it go", func() error {
		if o, err := lister.ByNamespace("default").Get("country"); err == nil {
			return fmt.Errorf("it still holds %v", o)
		} else if !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	})
	out := c.must("reprise", "history", "loaves.bakery.example.com/default/country")
	for _, fact := range []string{"loaf.created", "loaf.deleted"} {
		if !strings.Contains(out, fact) {
			t.Error(errors.New("history of the custom object lacks " + fact + ":\n" + out))
		}
	}
}
