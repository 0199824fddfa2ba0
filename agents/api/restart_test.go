package api_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
)

// TestRestart starts a server again on the same logs: clients find all as it was,
// their certificates are still good, and the history does not grow for it.
func TestRestart(t *testing.T) {
	r := &running{history: storagetest.NewLog(t, false), volatile: storagetest.NewLog(t, true)}
	dir := t.TempDir()
	stop := r.run(t, dir)
	r.namespace(t, "kept")
	if _, err := r.CoreV1().ConfigMaps("kept").Create(t.Context(), config("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The last that upstream makes for a new cluster comes after the server is ready.
	made, err := r.CoreV1().Services("default").Watch(t.Context(), metav1.SingleObject(metav1.ObjectMeta{Name: "kubernetes"}))
	if err != nil {
		t.Fatal(err)
	}
	<-made.ResultChan()
	made.Stop()
	ca, last := string(r.CA()), r.history.Sequence()
	stop()

	stop = r.run(t, dir)
	defer stop()
	if string(r.CA()) != ca {
		t.Error("the authority is another one")
	}
	if _, err := r.CoreV1().ConfigMaps("kept").Get(t.Context(), "a", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	for _, e := range r.history.After(t, last) {
		t.Errorf("the start appended %s on %s: %s", e.Type, e.Object, e.Data)
	}
}

// TestTwoServers lets two servers of one cluster serve the same objects.
func TestTwoServers(t *testing.T) {
	a := &running{history: storagetest.NewLog(t, false), volatile: storagetest.NewLog(t, true)}
	b := &running{history: a.history, volatile: a.volatile}
	dir := t.TempDir()
	stop := a.run(t, dir, func(o *api.Options) { o.ID = "a" })
	defer stop()
	stop = b.run(t, dir, func(o *api.Options) { o.ID = "b" })
	defer stop()
	w, err := b.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := a.CoreV1().ConfigMaps("default").Create(t.Context(), config("seen"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for e := range w.ResultChan() {
		if o, ok := e.Object.(*corev1.ConfigMap); ok && o.Name == "seen" {
			break
		}
	}
	leases, err := a.CoordinationV1().Leases("kube-system").List(t.Context(), metav1.ListOptions{LabelSelector: "apiserver.kubernetes.io/identity=kube-apiserver"})
	if err != nil || len(leases.Items) != 2 {
		t.Errorf("%d servers have a lease, %v", len(leases.Items), err)
	}
}
