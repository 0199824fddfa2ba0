//go:build e2e

package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	corev1defaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/node"
	"github.com/reprise-run/reprise/agents/node/images"
	"github.com/reprise-run/reprise/agents/node/runtime"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// patience is how long the tests wait for what must happen; a slow machine is no
// failure.
const patience = 2 * time.Minute

// cluster is a log in memory, with one node on a containerd of its own.
type cluster struct {
	t        *testing.T
	log      events.Log
	view     *live.Live
	proposer events.Proposer
	runtime  *runtime.Runtime
	root     string
	listener net.Listener
	stop     func()
	ids      int
}

// theRuntime is shared by all tests: to start containerd and import images takes
// longer than most of them.
var theRuntime = sync.OnceValues(func() (*runtime.Runtime, error) {
	run, err := os.MkdirTemp("/run", "reprise")
	if err != nil {
		return nil, err
	}
	dist, err := filepath.Abs("../../dist")
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp("", "reprise")
	if err != nil {
		return nil, err
	}
	config := runtime.Config{Node: "n1", DataDir: data, RunDir: run, BinDir: filepath.Join(dist, "bin"),
		PodCIDR: netip.MustParsePrefix("10.213.8.0/24"), PauseImage: images.PauseImage}
	r, err := runtime.Start(context.Background(), config)
	if err != nil {
		return nil, err
	}
	down = func() error { return errors.Join(r.Close(), runtime.Down(context.Background(), config, true)) }
	for _, name := range []string{"pause", "demo"} {
		if _, err := images.Import(context.Background(), r.Config().Socket(), filepath.Join(dist, "images", name+".tar")); err != nil {
			return nil, err
		}
	}
	return r, nil
})

// down takes theRuntime away.
var down = func() error { return nil }

func newCluster(t *testing.T) *cluster {
	t.Helper()
	r, err := theRuntime()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, log: schematest.NewLog(t), runtime: r, root: filepath.Join(r.Config().DataDir, t.Name())}
	volatile := schematest.NewLog(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c.view, err = live.Start(ctx, c.log, live.Options{})
	if err != nil {
		t.Fatal(err)
	}
	churn, err := live.Start(ctx, volatile, live.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	history := committer.New(c.log, c.view, committer.Options{})
	leases := committer.New(volatile, churn, committer.Options{Volatile: true})
	go func() { _ = history.Run(ctx) }()
	go func() { _ = leases.Run(ctx) }()
	c.proposer = committer.Route{History: history, Volatile: leases}
	c.start()
	t.Cleanup(func() {
		if t.Failed() {
			c.print()
		}
		c.clean()
		c.stop()
	})
	return c
}

// start starts an agent; stop ends it.
func (c *cluster) start() {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.listener = l
	a, err := node.New(node.Options{
		Name: "n1", Version: "test", KubernetesVersion: "v1.37.1", Projection: c.view, Proposer: c.proposer,
		Containers: c.runtime.Containers(), Images: c.runtime.Images(), Cgroups: c.runtime.Cgroups(),
		Tokens: tokens, Listener: l, RootDir: c.root, Addresses: []string{"127.0.0.1"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	c.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil && ctx.Err() == nil {
				c.t.Errorf("the agent ended: %v", err)
			}
		})
	}
}

func tokens(_ context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	out := req.DeepCopy()
	out.Status.Token = "token of " + namespace + "/" + account
	out.Status.ExpirationTimestamp = metav1.NewTime(time.Now().Add(time.Hour))
	return out, nil
}

// apply creates an object from YAML as the gate would.
func (c *cluster) apply(manifest string) events.Ref {
	c.t.Helper()
	var meta metav1.PartialObjectMetadata
	if err := yaml.Unmarshal([]byte(manifest), &meta); err != nil {
		c.t.Fatal(err)
	}
	var object any
	ref := events.Ref{Resource: strings.ToLower(meta.Kind) + "s", Namespace: "default", Name: meta.Name}
	c.ids++
	uid := fmt.Sprintf("%s-%d-%d", meta.Name, c.ids, time.Now().UnixNano())
	switch meta.Kind {
	case "Pod":
		pod := &v1.Pod{}
		c.parse(manifest, pod)
		corev1defaults.SetObjectDefaults_Pod(pod)
		pod.UID, pod.Namespace, pod.Spec.NodeName = types.UID(uid), "default", "n1"
		pod.Spec.ServiceAccountName, pod.Status.Phase = "default", v1.PodPending
		object = pod
	case "ConfigMap":
		cm := &v1.ConfigMap{}
		c.parse(manifest, cm)
		cm.UID, cm.Namespace = types.UID(uid), "default"
		object = cm
	case "Secret":
		s := &v1.Secret{}
		c.parse(manifest, s)
		s.UID, s.Namespace = types.UID(uid), "default"
		for k, v := range s.StringData {
			s.Data = map[string][]byte{k: []byte(v)}
		}
		s.StringData = nil
		object = s
	}
	c.propose(events.Change{Type: strings.ToLower(meta.Kind) + ".created", Object: ref, UID: uid, Data: encode(c.t, object)})
	return ref
}

func (c *cluster) parse(manifest string, into any) {
	c.t.Helper()
	if err := yaml.UnmarshalStrict([]byte(manifest), into); err != nil {
		c.t.Fatal(err)
	}
}

func encode(t *testing.T, o any) []byte {
	t.Helper()
	raw, err := json.Marshal(o)
	if err == nil {
		raw, err = events.Canonical(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (c *cluster) propose(change events.Change) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		r, err := c.proposer.Propose(ctx, events.Proposal{Decision: events.Decision{Changes: []events.Change{change}}, Actor: events.Actor{Kind: "api"}, User: "admin"})
		if err == nil {
			err = c.view.Wait(ctx, r.Last)
		}
		if err == nil {
			return
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "available") {
			c.t.Fatalf("%s %s: %v", change.Type, change.Object, err)
		}
	}
}

// delete asks for a pod's deletion as the gate would.
func (c *cluster) delete(ref events.Ref, grace int64) {
	c.t.Helper()
	at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second)).Rfc3339Copy()
	patch := events.AppendPatch(nil, []events.Op{
		{Op: "add", Path: "/metadata/deletionGracePeriodSeconds", Value: encode(c.t, grace)},
		{Op: "add", Path: "/metadata/deletionTimestamp", Value: encode(c.t, at)},
	})
	c.propose(events.Change{Type: "pod.terminating", Object: ref, Data: patch})
}

// pod waits until the pod is as it should be; nil stands for one that is gone.
func (c *cluster) pod(ref events.Ref, what string, is func(*v1.Pod) bool) *v1.Pod {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		view := c.view.View()
		var pod *v1.Pod
		if e := view.Get(ref); e != nil {
			pod = projections.As[v1.Pod](e)
		}
		if is(pod) {
			return pod
		}
		if c.view.Wait(ctx, view.Sequence()+1) != nil {
			c.t.Fatalf("%s is not %s:\n%s", ref, what, show(pod))
		}
	}
}

func show(pod *v1.Pod) string {
	if pod == nil {
		return "it is gone"
	}
	out, _ := yaml.Marshal(pod.Status)
	return string(out)
}

func ready(pod *v1.Pod) bool {
	if pod == nil {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func gone(pod *v1.Pod) bool { return pod == nil }

// history returns the types of the facts told of an object.
func (c *cluster) history(ref events.Ref) []events.Event {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	last, err := c.log.Last(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	var out []events.Event
	for s := uint64(1); s <= last; s++ {
		e, err := c.log.Get(ctx, s)
		if err != nil {
			c.t.Fatal(err)
		}
		if e.Object == ref {
			out = append(out, e)
		}
	}
	return out
}

func (c *cluster) types(ref events.Ref) string {
	var out []string
	for _, e := range c.history(ref) {
		out = append(out, e.Type)
	}
	return strings.Join(out, " ")
}

func (c *cluster) print() {
	if list, err := c.runtime.Containers().ListContainers(context.Background(), &runtimeapi.ListContainersRequest{}); err == nil {
		for _, i := range list.Containers {
			c.t.Logf("the runtime has %s attempt %d of %s, created %s: %s", i.Metadata.Name, i.Metadata.Attempt,
				i.Labels["io.kubernetes.pod.name"], time.Unix(0, i.CreatedAt), i.State)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	last, _ := c.log.Last(ctx)
	for s := uint64(1); s <= last; s++ {
		if e, err := c.log.Get(ctx, s); err == nil {
			c.t.Logf("%s", e.String())
		}
	}
}

// clean deletes what pods the test has left.
func (c *cluster) clean() {
	for e := range c.view.View().OnNode("n1") {
		if projections.As[v1.Pod](e).DeletionTimestamp == nil {
			c.delete(e.Ref, 0)
		}
	}
	for e := range c.view.View().OnNode("n1") {
		c.pod(e.Ref, "gone", gone)
	}
	left, err := os.ReadDir(filepath.Join(c.root, "pods"))
	if err != nil || len(left) > 0 {
		c.t.Errorf("left behind: %v %v", left, err)
	}
	if uids, err := c.runtime.Cgroups().Pods(); err != nil || len(uids) > 0 {
		c.t.Errorf("control groups left behind: %v %v", uids, err)
	}
}
