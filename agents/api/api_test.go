package api_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
)

// running is a server for a test, with its two logs.
type running struct {
	*api.Server
	history, volatile *storagetest.Log
	admin             *restclient.Config
}

func start(t testing.TB, adjust ...func(*api.Options)) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{history: storagetest.NewLog(t, false), volatile: storagetest.NewLog(t, true)}
	dir := t.TempDir()
	o := api.Options{
		Dir: dir, Listener: l, ServiceCIDR: "10.43.0.0/16",
		History: r.history.Source(), Volatile: r.volatile.Source(),
		Kubeconfig: filepath.Join(dir, "kubeconfig"),
	}
	for _, a := range adjust {
		a(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	began := time.Now()
	if r.Server, err = api.New(ctx, o); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		cancel()
		<-r.Done()
	})
	if r.admin, err = clientcmd.BuildConfigFromFlags("", o.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	r.admin.QPS = -1
	return r
}

func TestRoundTrip(t *testing.T) {
	s := start(t)
	c := kubernetes.NewForConfigOrDie(s.admin)
	ctx := t.Context()
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cm, err := c.CoreV1().ConfigMaps("shop").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(cm.ResourceVersion)
	for _, e := range s.history.After(t, 0) {
		t.Log(e.Sequence, e.Type, e.Object, e.User, e.Audit)
	}
}
