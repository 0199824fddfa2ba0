package past_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/projections/pebble"
)

// cluster is a control plane without controllers, whose past can be read.
type cluster struct {
	*api.Server
	kubernetes.Interface
	t     testing.TB
	log   *storagetest.Log
	store *pebble.Store
	admin *restclient.Config
}

func newStore(t testing.TB) *pebble.Store {
	t.Helper()
	s, err := pebble.Open("p", pebble.Options{FS: vfs.NewMem(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, store: newStore(t)}
	c.log = storagetest.NewStoredLog(t, c.store)
	ctx, cancel := context.WithCancel(context.Background())
	o := api.Options{
		Dir: t.TempDir(), Listener: listen(t), ServiceCIDR: "10.43.0.0/16",
		History: c.log.Source(), Volatile: storagetest.NewLog(t, true).Source(),
		Past: past.Options{Reader: c.store},
	}
	o.Kubeconfig = filepath.Join(o.Dir, "kubeconfig")
	var err error
	if c.Server, err = api.New(ctx, o); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-c.Done()
	})
	c.admin = clientOf(t, o.Kubeconfig)
	c.Interface = kubernetes.NewForConfigOrDie(c.admin)
	return c
}

func clientOf(t testing.TB, kubeconfig string) *restclient.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// now is the sequence of the last event.
func (c *cluster) now() uint64 { return c.log.Sequence() }

// rewound is a configuration for the past as of a sequence.
func rewound(config *restclient.Config, sequence uint64) *restclient.Config {
	then := restclient.CopyConfig(config)
	then.Host = fmt.Sprintf("%s/rewind/@%d", strings.TrimSuffix(config.Host, "/"), sequence)
	return then
}

func (c *cluster) at(sequence uint64) kubernetes.Interface {
	return kubernetes.NewForConfigOrDie(rewound(c.admin, sequence))
}

func (c *cluster) config(name string, labels map[string]string, data string) {
	c.t.Helper()
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: map[string]string{"k": data}}
	if _, err := c.CoreV1().ConfigMaps("default").Create(c.t.Context(), o, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func names(l *corev1.ConfigMapList) string {
	var all []string
	for _, o := range l.Items {
		all = append(all, o.Name+"="+o.Data["k"])
	}
	return strings.Join(all, " ")
}

// TestPast asks one cluster about its past in many ways.
func TestPast(t *testing.T) {
	c := newCluster(t)
	t.Run("objects", c.in(testObjects))
	t.Run("pages", c.in(testPages))
	t.Run("podlists", c.in(testPodLists))
	t.Run("rights", c.in(testRights))
	t.Run("writes", c.in(testWrites))
	t.Run("points", c.in(testPoints))
	t.Run("definitions", c.in(testDefinitions))
	t.Run("watches", c.in(testWatches))
}

func (c *cluster) in(f func(*testing.T, *cluster)) func(*testing.T) {
	return func(t *testing.T) {
		in := *c
		in.t = t
		f(t, &in)
	}
}

func testObjects(t *testing.T, c *cluster) {
	ctx := t.Context()
	c.config("a", map[string]string{"app": "web"}, "1")
	c.config("b", map[string]string{"app": "db"}, "1")
	first := c.now()
	o, err := c.CoreV1().ConfigMaps("default").Get(ctx, "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	version := o.ResourceVersion
	o.Data["k"] = "2"
	if _, err := c.CoreV1().ConfigMaps("default").Update(ctx, o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().ConfigMaps("default").Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	last := c.now()
	then := c.at(first).CoreV1().ConfigMaps("default")
	l, err := then.List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(l); got != "a=1 b=1" || l.ResourceVersion != fmt.Sprint(first) || l.Items[0].ResourceVersion != version {
		t.Errorf("at %d there were %s; version %s, first of %s and not %s", first, got, l.ResourceVersion, l.Items[0].ResourceVersion, version)
	}
	if l, err = then.List(ctx, metav1.ListOptions{LabelSelector: "app=db"}); err != nil || names(l) != "b=1" {
		t.Errorf("by label: %s, %v", names(l), err)
	}
	if l, err = then.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=a"}); err != nil || names(l) != "a=1" {
		t.Errorf("by field: %s, %v", names(l), err)
	}
	if l, err = c.at(last).CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{}); err != nil || !strings.Contains(names(l), "a=2") || strings.Contains(names(l), "b=") {
		t.Errorf("at %d: %s, %v", last, names(l), err)
	}
	if o, err = then.Get(ctx, "b", metav1.GetOptions{}); err != nil || o.Data["k"] != "1" {
		t.Errorf("the deleted object: %v, %v", o, err)
	}
	if _, err = c.at(last).CoreV1().ConfigMaps("default").Get(ctx, "b", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after its deletion: %v", err)
	}
	events, err := c.at(first).CoreV1().Events("").List(ctx, metav1.ListOptions{})
	if err != nil || len(events.Items) != 0 {
		t.Errorf("volatile objects: %v, %v", events, err)
	}
}

func testPages(t *testing.T, c *cluster) {
	ctx := t.Context()
	for _, ns := range []string{"p", "p-q"} {
		if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for i := range 7 {
			o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("o%d", i), Labels: map[string]string{"page": fmt.Sprint(i % 2)}}}
			if _, err := c.CoreV1().ConfigMaps(ns).Create(ctx, o, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	then := c.at(c.now())
	for _, test := range []struct {
		namespace, selector string
		want                int
	}{{"", "page", 14}, {"p", "", 7}, {"", "page=1", 6}, {"p-q", "page=0", 4}} {
		for _, limit := range []int64{1, 2, 3, 5, 100} {
			seen := map[string]bool{}
			o := metav1.ListOptions{LabelSelector: test.selector, Limit: limit}
			for {
				l, err := then.CoreV1().ConfigMaps(test.namespace).List(ctx, o)
				if err != nil {
					t.Fatal(err)
				}
				if int64(len(l.Items)) > limit {
					t.Errorf("a page of %d has %d", limit, len(l.Items))
				}
				for _, i := range l.Items {
					seen[i.Namespace+"/"+i.Name] = true
				}
				if n := l.RemainingItemCount; n != nil && test.selector == "" && int(*n) != test.want-len(seen) {
					t.Errorf("%d should remain, not %d", test.want-len(seen), *n)
				}
				if o.Continue = l.Continue; o.Continue == "" {
					break
				}
			}
			if len(seen) != test.want {
				t.Errorf("by pages of %d in %q with %q: %d, and should be %d", limit, test.namespace, test.selector, len(seen), test.want)
			}
		}
	}
}

// user is a client with few rights, or none.
func (c *cluster) user(name string) *restclient.Config {
	c.t.Helper()
	data, err := c.KubeconfigFor(name)
	if err != nil {
		c.t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		c.t.Fatal(err)
	}
	return config
}

func testRights(t *testing.T, c *cluster) {
	ctx := t.Context()
	jane := c.user("jane")
	then := kubernetes.NewForConfigOrDie(rewound(jane, c.now()))
	_, err := then.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `User "jane" cannot list resource "configmaps"`) {
		t.Errorf("jane could read the past: %v", err)
	}
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "jane"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}}},
	}
	if _, err := c.RbacV1().Roles("default").Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "jane"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "jane"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}},
	}
	if _, err := c.RbacV1().RoleBindings("default").Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // Rights are read from caches.
		_, err := kubernetes.NewForConfigOrDie(jane).CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		if err == nil {
			_, err = then.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		}
		return err
	})
	if _, err := then.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("jane could read other namespaces: %v", err)
	}
	if _, err := then.CoreV1().Secrets("default").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("jane could read secrets: %v", err)
	}
}

func testWrites(t *testing.T, c *cluster) {
	ctx := t.Context()
	before := c.now()
	then := c.at(before)
	_, create := then.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	_, patch := then.CoreV1().ConfigMaps("default").Patch(ctx, "a", "application/merge-patch+json", []byte(`{}`), metav1.PatchOptions{})
	for verb, err := range map[string]error{
		"create":           create,
		"patch":            patch,
		"delete":           then.CoreV1().ConfigMaps("default").Delete(ctx, "a", metav1.DeleteOptions{}),
		"deletecollection": then.CoreV1().ConfigMaps("default").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		"no log":           then.CoreV1().Pods("default").GetLogs("web", &corev1.PodLogOptions{}).Do(ctx).Error(),
	} {
		want := fmt.Sprintf("this is the cluster as it was at sequence %d (", before)
		if !apierrors.IsMethodNotSupported(err) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), verb) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if c.now() != before {
		t.Errorf("something was written: the log is at %d, and was at %d", c.now(), before)
	}
}

func testPoints(t *testing.T, c *cluster) {
	ctx := t.Context()
	raw := c.CoreV1().RESTClient()
	body, err := raw.Get().AbsPath("/rewind/@5").DoRaw(ctx)
	var m past.Moment
	if err != nil || json.Unmarshal(body, &m) != nil || m.Sequence != 5 || m.Time.IsZero() {
		t.Errorf("@5 is %s, %v", body, err)
	}
	if body, err = raw.Get().AbsPath("/rewind/now").DoRaw(ctx); err != nil || json.Unmarshal(body, &m) != nil || m.Sequence != c.now() {
		t.Errorf("now is %s, %v", body, err)
	}
	for point, says := range map[string]string{
		"@999999999":           "there is no event 999999999 yet",
		"2001-01-01T00:00:00Z": "before the log began",
		"2999-01-01T00:00:00Z": "in the future",
		"yesterday":            "names no moment",
		// Times are told in the zone that was written.
		"2001-01-01T00:00:00.5+05:30": "cannot rewind: 2001-01-01T00:00:00+05:30 is before the log began: the log goes from sequence 1 (20",
		"2001-01-01T00:00:00+05:30":   "+05:30) to ",
	} {
		for _, path := range []string{"", "/api/v1/pods"} {
			err := raw.Get().AbsPath("/rewind/" + point + path).Do(ctx).Error()
			if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s%s: %v", point, path, err)
			}
		}
	}
	nobody := &restclient.Config{Host: c.admin.Host, TLSClientConfig: restclient.TLSClientConfig{CAData: c.admin.CAData}}
	if err := kubernetes.NewForConfigOrDie(nobody).CoreV1().RESTClient().Get().AbsPath("/rewind/@5").Do(ctx).Error(); !apierrors.IsForbidden(err) {
		t.Errorf("a stranger was answered: %v", err)
	}
}
