package api_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
