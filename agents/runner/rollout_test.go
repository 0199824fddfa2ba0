package runner_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/controllers/deployment"
	"github.com/reprise-run/reprise/agents/controllers/replicaset"
	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/agents/replay/replaytest"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// binder is the least scheduler: every pod goes to n1.
type binder struct{}

func (binder) Actor() events.Actor { return events.Actor{Kind: "scheduler"} }

func (binder) Concerns(_ runner.View, c projections.Change) []events.Ref {
	if c.After == nil || c.After.Ref.Resource != "pods" {
		return nil
	}
	return []events.Ref{c.After.Ref}
}

func (binder) Decide(v runner.View, item runner.Item, _ time.Time) runner.Result {
	e := v.Get(item.Ref)
	if e == nil || projections.As[core.Pod](e).Spec.NodeName != "" {
		return runner.Result{}
	}
	return runner.Result{Decisions: []events.Decision{runner.Patch(e, "pod.bound", item.Because, runner.Set("/spec/nodeName", "n1"))}}
}

// hollow is the node n1 without containers: pods are ready as soon as they are
// there, and gone as soon as they are to be.
type hollow struct{ binder }

func (hollow) Actor() events.Actor { return events.Actor{Kind: "node", Name: "n1"} }

func (hollow) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	e := v.Get(item.Ref)
	if e == nil {
		return runner.Result{}
	}
	pod := projections.As[core.Pod](e)
	switch {
	case pod.Spec.NodeName != "n1":
		return runner.Result{}
	case pod.DeletionTimestamp != nil:
		return runner.Result{Decisions: []events.Decision{runner.Removal(e, "pod.removed", item.Because)}}
	case pod.Status.Phase == core.PodRunning:
		return runner.Result{}
	}
	status := core.PodStatus{Phase: core.PodRunning, Conditions: []core.PodCondition{
		{Type: core.PodReady, Status: core.ConditionTrue, LastTransitionTime: metav1.NewTime(now)},
	}}
	return runner.Result{Decisions: []events.Decision{runner.Patch(e, "pod.ready", item.Because, runner.Set("/status", status))}}
}

// town is a cluster of the controllers, a scheduler and a node, over a log in
// memory.
type town struct {
	*live.Live
	gate     runnertest.Gate
	proposer events.Proposer
	log      events.Log
}

func newTown(t testing.TB) *town {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log := schematest.NewLog(t)
	quiet := slog.New(slog.DiscardHandler)
	l, err := live.Start(ctx, log, live.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	c := committer.New(log, l, committer.Options{})
	w := &town{Live: l, gate: runnertest.Gate{Projection: l, Proposer: c, Now: time.Now}, proposer: c, log: log}
	run := []func(context.Context) error{c.Run}
	for _, d := range []runner.Decider{deployment.New(), replicaset.New(), binder{}, hollow{}} {
		o := runner.Options{Projection: l, Proposer: c, Gate: w.gate, Logger: quiet}
		run = append(run, runner.New(d, o).Run)
	}
	ended := make(chan struct{}, len(run))
	for _, f := range run {
		go func() {
			defer func() { ended <- struct{}{} }()
			if err := f(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("stopped: %v", err)
			}
		}()
	}
	t.Cleanup(func() {
		cancel()
		for range run {
			<-ended
		}
		l.Close()
	})
	<-c.Begun()
	return w
}

func web(name string, replicas int32, image string) *apps.Deployment {
	labels := map[string]string{"app": name}
	return &apps.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: apps.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: core.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       core.PodSpec{Containers: []core.Container{{Name: "c", Image: image}}},
			},
		},
	}
}

func deploymentRef(name string) events.Ref {
	return events.Ref{Group: "apps", Resource: "deployments", Namespace: "default", Name: name}
}

func (w *town) create(t testing.TB, d *apps.Deployment) {
	t.Helper()
	if _, err := w.gate.Do(t.Context(), events.Actor{}, runner.Creation(deploymentRef(d.Name), d, 0)); err != nil {
		t.Fatal(err)
	}
}

// update does what a person does to a Deployment.
func (w *town) update(t testing.TB, name, typ string, ops ...events.Op) {
	t.Helper()
	for {
		e := w.View().Get(deploymentRef(name))
		ops := append(ops[:len(ops):len(ops)], runner.Set("/metadata/generation", e.Meta().Generation+1))
		r, err := w.proposer.Propose(t.Context(), events.Proposal{Actor: events.Actor{Kind: "api"}, Decision: runner.Patch(e, typ, 0, ops...)})
		if err == nil {
			err = w.Wait(t.Context(), r.Last)
		}
		if err == nil {
			return
		}
		if _, conflict := err.(*events.ConflictError); !conflict {
			t.Fatal(err)
		}
	}
}

// until waits for the cluster to be in a state. watch is told of each change.
func (w *town) until(t testing.TB, what string, done func(projections.Reader) bool, watch func(projections.Reader)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	changes, err := w.Changes(ctx, w.View().Sequence())
	for err == nil {
		v := w.View()
		if watch != nil {
			watch(v)
		}
		if done(v) {
			return
		}
		_, err = changes.Next(ctx)
	}
	t.Fatalf("waiting for %s: %v; the Deployments are\n%s", what, err, w.describe())
}

func (w *town) describe() string {
	out := ""
	for e := range w.View().List("apps", "deployments", "") {
		out += string(e.Raw) + "\n"
	}
	return out
}

// complete says whether the rollout of a Deployment's newest spec is over.
func complete(name string) func(projections.Reader) bool {
	return func(v projections.Reader) bool {
		e := v.Get(deploymentRef(name))
		if e == nil {
			return false
		}
		d := projections.As[apps.Deployment](e)
		n, s := *d.Spec.Replicas, d.Status
		return s.ObservedGeneration == d.Generation && s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n
	}
}

// images counts the pods that are not being deleted by the image they run.
func images(v projections.Reader) map[string]int {
	count := map[string]int{}
	for e := range v.List("", "pods", "") {
		if pod := projections.As[core.Pod](e); pod.DeletionTimestamp == nil {
			count[pod.Spec.Containers[0].Image]++
		}
	}
	return count
}

// The controllers together carry a Deployment through its life, and never let it
// fall below what its strategy promises.
func TestRollout(t *testing.T) {
	w := newTown(t)
	w.create(t, web("web", 20, "web:1"))
	w.until(t, "the first rollout", complete("web"), nil)

	w.update(t, "web", "deployment.image-changed", runner.Set("/spec/template/spec/containers/0/image", "web:2"))
	w.until(t, "the new image", complete("web"), func(v projections.Reader) {
		ready := 0
		for e := range v.List("", "pods", "") {
			pod := projections.As[core.Pod](e)
			if pod.DeletionTimestamp == nil && pod.Status.Phase == core.PodRunning {
				ready++
			}
		}
		asked := int32(0)
		for e := range v.List("apps", "replicasets", "") {
			asked += *projections.As[apps.ReplicaSet](e).Spec.Replicas
		}
		if ready < 15 || asked > 25 {
			t.Errorf("at sequence %d %d pods are ready and %d asked for; at least 15 should be, of at most 25", v.Sequence(), ready, asked)
		}
	})
	if got := fmt.Sprint(images(w.View())); got != "map[web:2:20]" {
		t.Errorf("there are %s", got)
	}

	w.update(t, "web", "deployment.scaled", runner.Set("/spec/replicas", 5))
	w.until(t, "fewer replicas", complete("web"), nil)
	w.update(t, "web", "deployment.image-changed", runner.Set("/spec/template/spec/containers/0/image", "web:1"))
	w.until(t, "the old image", complete("web"), nil)
	d := projections.As[apps.Deployment](w.View().Get(deploymentRef("web")))
	if got := d.Annotations["deployment.kubernetes.io/revision"]; got != "3" {
		t.Errorf("after an undo it is at revision %s, want 3", got)
	}
	if got := fmt.Sprint(images(w.View())); got != "map[web:1:5]" {
		t.Errorf("there are %s", got)
	}
	report := replaytest.Check(t, w.events(t), replay.Options{Make: withToys})
	for _, a := range report.Agents() {
		if a.Equal == 0 || a.Equal != a.Decisions {
			t.Errorf("of %d decisions of %s only %d were compared", a.Decisions, a.Agent, a.Equal)
		}
	}
}

// withToys knows the deciders of the town.
func withToys(actor string, setup []byte) (runner.Decider, bool, error) {
	switch actor {
	case "scheduler":
		return binder{}, true, nil
	case "node:n1":
		return hollow{}, true, nil
	}
	return replay.Deciders(actor, setup)
}

// events reads the town's log so far.
func (w *town) events(t testing.TB) []events.Event {
	t.Helper()
	last, err := w.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []events.Event
	for sequence := range last {
		e, err := w.log.Get(t.Context(), sequence+1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// BenchmarkPods is the cost of a pod to the controllers, the runner and the log
// in memory, without the API, a scheduler or a node.
func BenchmarkPods(b *testing.B) {
	for _, each := range []int{1, 50, 2000} {
		b.Run(fmt.Sprintf("replicas=%d", each), func(b *testing.B) { benchmarkPods(b, each) })
	}
}

func benchmarkPods(b *testing.B, each int) {
	w := newTown(b)
	start := w.View().Sequence()
	n := max(b.N/each, 1)
	b.ResetTimer()
	for i := range n {
		w.create(b, web(fmt.Sprintf("web-%d", i), int32(each), "web:1"))
	}
	for i := range n {
		w.until(b, "all rollouts", complete(fmt.Sprintf("web-%d", i)), nil)
	}
	b.StopTimer()
	b.ReportMetric(float64(w.View().Sequence()-start)/float64(n*each), "events/pod")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n*each), "us/pod")
}

// BenchmarkReplay is how fast the log of a rollout of 2,000 pods is decided again.
func BenchmarkReplay(b *testing.B) {
	w := newTown(b)
	w.create(b, web("web", 2000, "web:1"))
	w.until(b, "the rollout", complete("web"), nil)
	log := w.events(b)
	decisions := 0
	for b.Loop() {
		r := replay.New(replay.Options{Make: withToys})
		if err := r.Feed(slices.Clone(log)); err != nil {
			b.Fatal(err)
		}
		report, err := r.Finish()
		if err != nil || report.Differences > 0 {
			b.Fatal(err, report.Text())
		}
		for _, a := range report.Agents() {
			decisions += a.Decisions
		}
	}
	b.ReportMetric(float64(b.N*len(log))/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(decisions)/b.Elapsed().Seconds(), "decisions/s")
}
