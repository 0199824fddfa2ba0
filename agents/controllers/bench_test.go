package controllers_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/controllers/deployment"
	"github.com/reprise-run/reprise/agents/controllers/garbage"
	"github.com/reprise-run/reprise/agents/controllers/namespace"
	"github.com/reprise-run/reprise/agents/controllers/podgc"
	"github.com/reprise-run/reprise/agents/controllers/recorder"
	"github.com/reprise-run/reprise/agents/controllers/replicaset"
	"github.com/reprise-run/reprise/agents/controllers/serviceaccount"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/near"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
)

// BenchmarkPods measures what a pod costs a server, from a Deployment to ready: the
// controllers, the gate, the committer, the log on disk and synced, both
// projections, the API's caches and the scheduler, in this process. Nodes have no
// agents: each pod that is bound is said to be ready, as its node would, which is
// counted too.
func BenchmarkPods(b *testing.B) {
	const nodes, size = 100, 100
	c := newBenchCluster(b)
	for i := range nodes {
		c.node(b, fmt.Sprint("n", i))
	}
	c.deploy(b, "warm", size)
	ready := size
	b.ReportAllocs()
	b.ResetTimer()
	before, last := used(b), c.history.View().Sequence()
	for n := 0; n < b.N; n += size {
		c.deploy(b, fmt.Sprint("web", n), min(size, b.N-n))
	}
	ready += b.N
	c.ready(b, ready)
	b.ReportMetric(float64((used(b)-before).Microseconds())/float64(b.N), "cpu-us/pod")
	b.ReportMetric(float64(c.history.View().Sequence()-last)/float64(b.N), "events/pod")
}

// BenchmarkEnds measures what the end of a pod costs a server, from the deletion of
// its Deployment to its removal, on the same parts. Nodes say what theirs do: that the
// containers ended, and then that the pod is gone.
func BenchmarkEnds(b *testing.B) {
	const nodes, size = 100, 100
	c := newBenchCluster(b)
	for i := range nodes {
		c.node(b, fmt.Sprint("n", i))
	}
	var names []string
	for n := 0; n < b.N; n += size {
		names = append(names, fmt.Sprint("web", n))
		c.deploy(b, names[len(names)-1], min(size, b.N-n))
	}
	c.ready(b, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	before, last := used(b), c.history.View().Sequence()
	for _, name := range names {
		must(b, c.AppsV1().Deployments("default").Delete(b.Context(), name, metav1.DeleteOptions{}))
	}
	c.gone(b)
	b.ReportMetric(float64((used(b)-before).Microseconds())/float64(b.N), "cpu-us/pod")
	b.ReportMetric(float64(c.history.View().Sequence()-last)/float64(b.N), "events/pod")
}

// benchCluster is the parts of a server, as cmd puts them together.
type benchCluster struct {
	kubernetes.Interface
	history, volatile *live.Live
	proposer          events.Proposer
}

func newBenchCluster(b *testing.B) *benchCluster {
	quiet := slog.New(slog.DiscardHandler)
	dir := b.TempDir()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(dir, "log")})
	must(b, err)
	b.Cleanup(server.Shutdown)
	nc, err := server.Connect()
	must(b, err)
	b.Cleanup(nc.Close)
	store, err := pebble.Open(filepath.Join(dir, "projection"), pebble.Options{Log: quiet})
	must(b, err)
	b.Cleanup(func() { store.Close() })
	c := &benchCluster{}
	ctx, cancel := context.WithCancel(context.Background())
	var ended []chan struct{}
	keep := func(f func()) {
		done := make(chan struct{})
		ended = append(ended, done)
		go func() { defer close(done); f() }()
	}
	b.Cleanup(func() {
		cancel()
		for _, done := range ended {
			<-done
		}
	})
	follow := func(log events.Log, o live.Options, co committer.Options) (*live.Live, *committer.Committer) {
		l, err := live.Start(ctx, log, o)
		must(b, err)
		com := committer.New(log, l, co)
		keep(func() { _ = com.Run(ctx) })
		<-com.Begun()
		ended = append(ended, closedBy(l.Done()))
		return l, com
	}
	history, err := jetstream.History(ctx, nc, jetstream.Config{})
	must(b, err)
	volatile, err := jetstream.Volatile(ctx, nc, jetstream.Config{})
	must(b, err)
	var h, v *committer.Committer
	c.history, h = follow(near.New(history, near.Options{}), live.Options{Store: store, Log: quiet}, committer.Options{Shape: projections.CheckShape})
	c.volatile, v = follow(near.New(volatile, near.Options{}), live.Options{Volatile: true, Log: quiet}, committer.Options{Volatile: true})
	c.proposer = committer.Route{History: h, Volatile: v}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	s, err := api.New(ctx, api.Options{
		Dir: dir, Listener: listener, ServiceCIDR: "10.43.0.0/16", Kubeconfig: filepath.Join(dir, "kubeconfig"),
		History:  storage.Source{Projection: c.history, Proposer: c.proposer},
		Volatile: storage.Source{Projection: c.volatile, Proposer: c.proposer},
	})
	must(b, err)
	ended = append(ended, closedBy(s.Done()))
	config := s.Loopback()
	config.QPS = -1
	c.Interface = kubernetes.NewForConfigOrDie(config)
	var all []*runner.Runner
	for _, d := range []runner.Decider{
		scheduler.New(""), deployment.New(), replicaset.New(), namespace.New(), garbage.New(), serviceaccount.New(), recorder.New(),
		podgc.New(podgc.Options{}),
	} {
		all = append(all, runner.New(d, runner.Options{Projection: c.history, Volatile: c.volatile, Proposer: c.proposer, Gate: s.Gate(), Logger: quiet, Version: "bench"}))
	}
	keep(func() { _ = runner.Together(ctx, all...) })
	keep(func() { _ = c.nodes(ctx) })
	eventually(b, "an account for pods", func(ctx context.Context) string {
		_, err := c.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return text(err)
	})
	return c
}

// closedBy turns a channel that tells an end into one that can be waited for with
// others.
func closedBy(done <-chan struct{}) chan struct{} {
	c := make(chan struct{})
	go func() { <-done; close(c) }()
	return c
}

func (c *benchCluster) node(b *testing.B, name string) {
	n, err := c.CoreV1().Nodes().Create(b.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(b, err)
	n.Spec.Taints = nil // see cluster.node
	n, err = c.CoreV1().Nodes().Update(b.Context(), n, metav1.UpdateOptions{})
	must(b, err)
	n.Status.Allocatable = quantities("cpu", "400", "memory", "800Gi", "pods", "10000")
	n.Status.Capacity = n.Status.Allocatable
	_, err = c.CoreV1().Nodes().UpdateStatus(b.Context(), n, metav1.UpdateOptions{})
	must(b, err)
}

func (c *benchCluster) deploy(b *testing.B, name string, size int) {
	replicas, labels := int32(size), map[string]string{"app": name}
	_, err := c.AppsV1().Deployments("default").Create(b.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "c", Image: "web", Resources: corev1.ResourceRequirements{Requests: quantities("cpu", "100m", "memory", "64Mi")},
			}}},
		}},
	}, metav1.CreateOptions{})
	must(b, err)
	if name == "warm" {
		c.ready(b, size)
	}
}

// ready waits until so many pods run.
func (c *benchCluster) ready(b *testing.B, want int) {
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	for {
		view := c.history.View()
		available := 0
		for e := range view.List("apps", "deployments", "") {
			n, _ := strconv.Atoi(string(events.Lookup(e.Raw, "status", "availableReplicas")))
			available += n
		}
		if available >= want {
			return
		}
		changes, err := c.history.Changes(ctx, view.Sequence())
		must(b, err)
		for {
			batch, err := changes.Next(ctx)
			must(b, err)
			if anyDeployment(batch) {
				break
			}
		}
	}
}

// gone waits until there is no pod.
func (c *benchCluster) gone(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	view := c.history.View()
	changes, err := c.history.Changes(ctx, view.Sequence())
	must(b, err)
	left := len(slices.Collect(view.List("", "pods", "")))
	for left > 0 {
		batch, err := changes.Next(ctx)
		must(b, err)
		for _, c := range batch {
			if c.Event.Type == "pod.removed" {
				left--
			}
		}
	}
}

func anyDeployment(batch []projections.Change) bool {
	for _, c := range batch {
		if c.Event.Object.Resource == "deployments" {
			return true
		}
	}
	return false
}

// nodes says of each pod that is bound that it is ready, and of one that is to go that
// its containers ended and that it is gone, as its node would.
func (c *benchCluster) nodes(ctx context.Context) error {
	changes, err := c.history.Changes(ctx, c.history.View().Sequence())
	if err != nil {
		return err
	}
	slots := make(chan struct{}, 256)
	for {
		batch, err := changes.Next(ctx)
		if err != nil {
			return err
		}
		for _, change := range batch {
			if !isForNode(change) {
				continue
			}
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				c.act(ctx, change)
			}()
		}
	}
}

// isForNode says whether the node of a pod has something to do after a change.
func isForNode(c projections.Change) bool {
	switch c.Event.Type {
	case "pod.bound", "pod.succeeded":
		return true
	}
	return c.Before != nil && c.After != nil && c.After.Ref.GroupResource() == "pods" &&
		c.Before.Meta().DeletionTimestamp == nil && c.After.Meta().DeletionTimestamp != nil
}

// act does what the node of a pod does after a change of it.
func (c *benchCluster) act(ctx context.Context, change projections.Change) {
	e, because := change.After, change.Event.Sequence
	pod, now := projections.As[corev1.Pod](e), time.Now().UTC().Truncate(time.Millisecond)
	node := hollow(pod.Spec.NodeName)
	decisions := node.Decide(runner.View{Reader: c.history.View()}, runner.Item{Ref: e.Ref, Because: because}, now).Decisions
	if pod.DeletionTimestamp != nil && pod.Status.Phase == corev1.PodRunning {
		decisions = []events.Decision{runner.Patch(e, "pod.succeeded", because, runner.Set("/status/phase", corev1.PodSucceeded))}
	}
	for _, d := range decisions {
		_, _ = c.proposer.Propose(ctx, events.Proposal{Decision: d, Actor: node.Actor(), Basis: because, Now: now})
	}
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
