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
	"github.com/reprise-run/reprise/events"
)

// running is a server for a test, with its two logs.
type running struct {
	*api.Server
	kubernetes.Interface
	history, volatile *storagetest.Log
	admin             *restclient.Config
}

func start(t testing.TB, adjust ...func(*api.Options)) *running {
	t.Helper()
	r := &running{history: storagetest.NewLog(t, false), volatile: storagetest.NewLog(t, true)}
	stop := r.run(t, t.TempDir(), adjust...)
	t.Cleanup(stop)
	return r
}

// run starts a server on the logs, and returns what stops it.
func (r *running) run(t testing.TB, dir string, adjust ...func(*api.Options)) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	if r.admin, err = clientcmd.BuildConfigFromFlags("", o.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	r.admin.QPS = -1
	r.Interface = kubernetes.NewForConfigOrDie(r.admin)
	return func() {
		cancel()
		<-r.Done()
	}
}

// namespace makes a namespace with a default service account, which admission
// wants for pods, and which controllers make elsewhere.
func (r *running) namespace(t testing.TB, name string) {
	t.Helper()
	_, err := r.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.CoreV1().ServiceAccounts(name).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// about returns the events after a sequence on one resource.
func (r *running) about(t testing.TB, after uint64, resource string) (found []events.Event) {
	t.Helper()
	for _, e := range r.history.After(t, after) {
		if e.Object.GroupResource() == resource {
			found = append(found, e)
		}
	}
	return found
}

func config(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"k": "v"}}
}
