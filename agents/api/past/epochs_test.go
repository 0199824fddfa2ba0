package past_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	definitions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/projections"
)

var loaves = schema.GroupVersionResource{Group: "bakery.example.com", Version: "v1", Resource: "loaves"}

// loafDefinition has one number in its spec.
func loafDefinition(field string) *apiextensions.CustomResourceDefinition {
	return &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "loaves.bakery.example.com"},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: loaves.Group, Scope: apiextensions.NamespaceScoped,
			Names: apiextensions.CustomResourceDefinitionNames{Plural: "loaves", Singular: "loaf", Kind: "Loaf"},
			Versions: []apiextensions.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				AdditionalPrinterColumns: []apiextensions.CustomResourceColumnDefinition{{Name: field, Type: "integer", JSONPath: ".spec." + field}},
				Schema: &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &apiextensions.JSONSchemaProps{
					Type: "object",
					Properties: map[string]apiextensions.JSONSchemaProps{"spec": {
						Type: "object", Properties: map[string]apiextensions.JSONSchemaProps{field: {Type: "integer"}},
					}},
				}},
			}},
		},
	}
}

// testDefinitions changes what a custom resource is, and removes it.
func testDefinitions(t *testing.T, c *cluster) {
	ctx := t.Context()
	crds := definitions.NewForConfigOrDie(c.admin).ApiextensionsV1().CustomResourceDefinitions()
	none := c.now()
	d, err := crds.Create(ctx, loafDefinition("grams"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	loaf := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "bakery.example.com/v1", "kind": "Loaf", "metadata": map[string]any{"name": "rye"},
		"spec": map[string]any{"grams": int64(800)},
	}}
	live := dynamic.NewForConfigOrDie(c.admin).Resource(loaves).Namespace("default")
	eventually(t, func() error {
		_, err := live.Create(ctx, loaf, metav1.CreateOptions{})
		return err
	})
	first := c.now()
	eventually(t, func() error {
		if d, err = crds.Get(ctx, d.Name, metav1.GetOptions{}); err == nil {
			d.Spec = loafDefinition("kilos").Spec
			_, err = crds.Update(ctx, d, metav1.UpdateOptions{})
		}
		return err
	})
	second := c.now()
	if err := crds.Delete(ctx, d.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if _, err := crds.Get(ctx, d.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the definition is there: %w", err)
		}
		return nil
	})
	gone := c.now()
	for sequence, field := range map[uint64]string{none: "", first: "grams", second: "kilos", gone: ""} {
		t.Run(fmt.Sprint(sequence), func(t *testing.T) { loavesAt(t, c, sequence, field) })
	}
}

// loavesAt checks that loaves are served as of a sequence with the field that they
// had, "" for not at all.
func loavesAt(t *testing.T, c *cluster, sequence uint64, field string) {
	ctx := t.Context()
	then := c.at(sequence)
	list, err := dynamic.NewForConfigOrDie(rewound(c.admin, sequence)).Resource(loaves).Namespace("").List(ctx, metav1.ListOptions{})
	groups, discovery := then.Discovery().ServerResourcesForGroupVersion("bakery.example.com/v1")
	if field == "" {
		if !apierrors.IsNotFound(err) || !apierrors.IsNotFound(discovery) {
			t.Errorf("there were no loaves: %v, %v", list, groups)
		}
		return
	}
	if err != nil || len(list.Items) != 1 || discovery != nil || len(groups.APIResources) == 0 {
		t.Fatalf("the loaf: %v, %v; discovery: %v, %v", list, err, groups, discovery)
	}
	table, err := then.CoreV1().RESTClient().Get().AbsPath("/apis/bakery.example.com/v1/loaves").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
	if err != nil || !strings.Contains(string(table), `"name":"`+field+`"`) {
		t.Errorf("the table has no %s: %s, %v", field, table, err)
	}
	doc, err := then.CoreV1().RESTClient().Get().AbsPath("/openapi/v3/apis/bakery.example.com/v1").DoRaw(ctx)
	if err != nil || !strings.Contains(string(doc), field) {
		t.Errorf("the schema has no %s: %v", field, err)
	}
}

// testWatches lists and watches as clients do, in both ways.
func testWatches(t *testing.T, c *cluster) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	then := c.now()
	config := rewound(c.admin, then)
	var warned warnings
	config.WarningHandler = &warned
	client := kubernetes.NewForConfigOrDie(config)
	factory := informers.NewSharedInformerFactory(client, 0)
	lister := factory.Core().V1().Namespaces().Lister()
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			t.Fatalf("%s are not in the informer", kind)
		}
	}
	if _, err := lister.Get("default"); err != nil {
		t.Error(err)
	}
	if len(warned) > 0 {
		t.Errorf("an informer is warned: %q", warned)
	}
	yes := true
	for name, o := range map[string]metav1.ListOptions{
		"from nothing":    {},
		"initial events":  {SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan},
		"from the moment": {ResourceVersion: fmt.Sprint(then)},
		"too old":         {ResourceVersion: "2"},
	} {
		warned = nil
		w, err := client.CoreV1().Namespaces().Watch(ctx, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if says := strings.Join(warned, "\n"); strings.Contains(says, "nothing changes in it: a watch of namespaces stays silent") == o.AllowWatchBookmarks {
			t.Errorf("%s: the warnings are %q", name, says)
		}
		switch name {
		case "from nothing":
			if e := <-w.ResultChan(); e.Type != watch.Added {
				t.Errorf("%s: %v", name, e)
			}
		case "initial events":
			for e := range w.ResultChan() {
				if e.Type == watch.Bookmark {
					break
				}
			}
		case "too old":
			if e := <-w.ResultChan(); !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) && !apierrors.IsGone(apierrors.FromObject(e.Object)) {
				t.Errorf("%s: %v", name, e)
			}
		case "from the moment":
			select {
			case e := <-w.ResultChan():
				t.Errorf("%s: %v", name, e)
			case <-time.After(50 * time.Millisecond):
			}
		}
		w.Stop()
	}
}

// warnings are those that a client got, of one request at a time.
type warnings []string

func (w *warnings) HandleWarningHeader(_ int, _, text string) { *w = append(*w, text) }

// TestAlone serves a history whose cluster has gone.
func TestAlone(t *testing.T) {
	c := newCluster(t)
	c.config("a", nil, "1")
	then := c.now()
	if err := c.CoreV1().ConfigMaps("default").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	o := api.PastOptions{Dir: dir, Listener: listen(t), Kubeconfig: filepath.Join(dir, "kubeconfig"), Past: past.Options{
		Reader: c.store,
		Reveal: func(e *projections.Entry) ([]byte, error) {
			return []byte(strings.Replace(string(e.Raw), `"k":"1"`, `"k":"revealed"`, 1)), nil
		},
	}}
	s, err := api.ServePast(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	admin := clientOf(t, o.Kubeconfig)
	l, err := kubernetes.NewForConfigOrDie(rewound(admin, then)).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || names(l) != "a=revealed" {
		t.Errorf("at %d: %s, %v", then, names(l), err)
	}
	end := kubernetes.NewForConfigOrDie(admin)
	if l, err = end.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err != nil || names(l) != "" || l.ResourceVersion != fmt.Sprint(c.now()) {
		t.Errorf("at the end: %s, %s, %v", names(l), l.ResourceVersion, err)
	}
	if _, err := end.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, metav1.CreateOptions{}); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a write: %v", err)
	}
	if _, err := kubernetes.NewForConfigOrDie(c.admin).Discovery().ServerVersion(); err != nil {
		t.Error(err)
	}
	cancel()
	<-s.Done()
	if s.Err() != nil {
		t.Error(s.Err())
	}
}
