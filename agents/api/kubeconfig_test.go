package api_test

import (
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
)

// TestContextsOfThePast restarts a server on another port.
func TestContextsOfThePast(t *testing.T) {
	r := &running{history: storagetest.NewLog(t, false), volatile: storagetest.NewLog(t, true)}
	dir := t.TempDir()
	file := filepath.Join(dir, "kubeconfig")
	r.run(t, dir)()
	c, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cluster, context := c.Clusters["reprise"].DeepCopy(), c.Contexts["reprise"].DeepCopy()
	cluster.Server += past.Prefix + "@5"
	context.Cluster = "reprise@5"
	c.Clusters["reprise@5"], c.Contexts["reprise@5"], c.Contexts["stale"] = cluster, context, c.Contexts["reprise"]
	if err := clientcmd.WriteToFile(*c, file); err != nil {
		t.Fatal(err)
	}
	stop := r.run(t, dir)
	defer stop()
	if c, err = clientcmd.LoadFromFile(file); err != nil {
		t.Fatal(err)
	}
	if got := c.Clusters["reprise@5"]; got == nil || got.Server != r.Address+past.Prefix+"@5" || c.Contexts["reprise@5"] == nil {
		t.Errorf("the context of the past is now %v, and should lead to %s", got, r.Address)
	}
	if c.CurrentContext != "reprise" || c.Contexts["stale"] != nil {
		t.Errorf("current is %s, and there are %v", c.CurrentContext, c.Contexts)
	}
}
