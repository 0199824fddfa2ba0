package controllers_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/agents/controllers/deployment"
	"github.com/reprise-run/reprise/agents/controllers/garbage"
	"github.com/reprise-run/reprise/agents/controllers/namespace"
	"github.com/reprise-run/reprise/agents/controllers/recorder"
	"github.com/reprise-run/reprise/agents/controllers/replicaset"
	"github.com/reprise-run/reprise/agents/controllers/roleaggregation"
	"github.com/reprise-run/reprise/agents/controllers/rootca"
	"github.com/reprise-run/reprise/agents/controllers/serviceaccount"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/projections"
)

// cluster is the API with all deciders over logs in memory, and nodes without
// containers.
type cluster struct {
	kubernetes.Interface
	dynamic dynamic.Interface
	history *storagetest.Log
}

func newCluster(t *testing.T, nodes ...string) *cluster {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{history: storagetest.NewLog(t, false)}
	volatile := storagetest.NewLog(t, true)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	server, err := api.New(ctx, api.Options{
		Dir: dir, Listener: l, ServiceCIDR: "10.43.0.0/16", Kubeconfig: filepath.Join(dir, "kubeconfig"),
		History: c.history.Source(), Volatile: volatile.Source(),
	})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-server.Done()
	})
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	c.Interface, c.dynamic = kubernetes.NewForConfigOrDie(config), dynamic.NewForConfigOrDie(config)
	deciders := []runner.Decider{
		scheduler.New(""), deployment.New(), replicaset.New(), namespace.New(), garbage.New(),
		serviceaccount.New(), rootca.New(server.CA()), roleaggregation.New(), recorder.New(),
	}
	for _, name := range nodes {
		c.node(t, name)
		deciders = append(deciders, hollow(name))
	}
	for _, d := range deciders {
		r := runner.New(d, runner.Options{
			Projection: c.history, Volatile: volatile, Gate: server.Gate(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Proposer: committer.Route{History: c.history, Volatile: volatile},
		})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", d.Actor(), err)
			}
		}()
		t.Cleanup(func() { cancel(); <-ended })
	}
	return c
}

func (c *cluster) node(t *testing.T, name string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n, err := c.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Spec.Taints = nil // admission says that it is not ready, which nobody here takes back
	if n, err = c.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.Status.Allocatable = quantities("cpu", "4", "memory", "8Gi", "pods", "110")
	n.Status.Capacity = n.Status.Allocatable
	if _, err := c.CoreV1().Nodes().UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until there is nothing to complain about.
func eventually(t testing.TB, what string, complaint func(context.Context) string) {
	t.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		last = complaint(ctx)
		return last == "", nil
	})
	if err != nil {
		t.Fatalf("%s: %s", what, last)
	}
}

// hollow is a node without containers: its pods are ready as soon as they are
// bound, and gone as soon as they are to be.
type hollow string

func (h hollow) Actor() events.Actor { return events.Actor{Kind: "node", Name: string(h)} }

func (h hollow) Concerns(_ runner.View, c projections.Change) []events.Ref {
	if c.After == nil || c.After.Ref.GroupResource() != "pods" {
		return nil
	}
	return []events.Ref{c.After.Ref}
}

func (h hollow) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	e := v.Get(item.Ref)
	if e == nil {
		return runner.Result{}
	}
	pod := projections.As[corev1.Pod](e)
	switch {
	case pod.Spec.NodeName != string(h):
		return runner.Result{}
	case pod.DeletionTimestamp != nil:
		return runner.Result{Decisions: []events.Decision{runner.Removal(e, "pod.removed", item.Because)}}
	case pod.Status.Phase == corev1.PodRunning:
		return runner.Result{}
	}
	status := pod.Status.DeepCopy()
	status.Phase = corev1.PodRunning
	status.Conditions = append(status.Conditions, corev1.PodCondition{
		Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now),
	})
	return runner.Result{Decisions: []events.Decision{runner.Patch(e, "pod.ready", item.Because, runner.Set("/status", status))}}
}

// types lists the types of the events about an object, in order.
func (c *cluster) types(t *testing.T, object string) string {
	t.Helper()
	var types []string
	for _, e := range c.history.After(t, 0) {
		if e.Object.String() == object {
			types = append(types, e.Type)
		}
	}
	return strings.Join(types, " ")
}

func count(n int, err error, want int) string {
	if err != nil {
		return err.Error()
	}
	if n != want {
		return fmt.Sprintf("there are %d, not %d", n, want)
	}
	return ""
}
