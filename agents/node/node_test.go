package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/agents/node"
	"github.com/reprise-run/reprise/agents/sim/hollow"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// bubble is a log and a node with a hollow runtime, in time of their own.
type bubble struct {
	t       *testing.T
	log     events.Log
	view    *live.Live
	seen    live.Projection // the agent's, the view unless a test sets it
	gate    events.Proposer
	faults  *faulty
	runtime *hollow.Runtime
	// alive and heard are the agent's, nil unless a test sets them.
	alive func(context.Context) (renew bool, err error)
	heard func() time.Time
	// containers is what the agent has of it, itself unless a test sets it.
	containers runtimeapi.RuntimeServiceClient
	root       string
	stop       func()
}

// inBubble runs a test in time of its own. It draws its faults from the seed.
func inBubble(t *testing.T, seed uint64, test func(b *bubble)) {
	t.Helper()
	inBubbleOf(t, seed, hollow.Profile{}, test)
}

// inBubbleOf does so with containers that behave as a profile says.
func inBubbleOf(t *testing.T, seed uint64, profile hollow.Profile, test func(b *bubble)) {
	t.Helper()
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		timeline := hollow.NewTimeline(clock.RealClock{})
		b := &bubble{t: t, log: schematest.NewLog(t), runtime: hollow.New(hollow.Options{
			Node: "n1", Pods: netip.MustParsePrefix("10.1.0.0/24"), Timeline: timeline, Profile: profile,
		}), root: root}
		volatile := schematest.NewLog(t)
		var err1, err2 error
		b.view, err1 = live.Start(ctx, b.log, live.Options{})
		churn, err2 := live.Start(ctx, volatile, live.Options{Volatile: true})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		history := committer.New(b.log, b.view, committer.Options{})
		leases := committer.New(volatile, churn, committer.Options{Volatile: true})
		var running sync.WaitGroup
		running.Go(func() { _ = history.Run(ctx) })
		running.Go(func() { _ = leases.Run(ctx) })
		running.Go(func() { timeline.Run(ctx) })
		b.gate = committer.Route{History: history, Volatile: leases}
		b.faults = &faulty{Proposer: b.gate, random: rand.New(rand.NewPCG(seed, 0))}
		b.seen, b.containers = b.view, b.runtime
		synctest.Wait()
		b.start()
		test(b)
		b.stop()
		cancel()
		running.Wait()
		<-b.view.Done()
		<-churn.Done()
	})
}

// start starts an agent; stop ends it.
func (b *bubble) start() {
	b.t.Helper()
	a, err := node.New(node.Options{Name: "n1", Version: "test", Projection: b.seen, Proposer: b.faults,
		Alive: b.alive, Heard: b.heard, Containers: b.containers, Images: b.runtime, RootDir: b.root, Addresses: []string{"10.0.0.1"},
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	b.stop = func() {
		cancel()
		<-done
	}
}

// use has another agent begin, which has a runtime in this way.
func (b *bubble) use(containers runtimeapi.RuntimeServiceClient) {
	b.t.Helper()
	b.stop()
	b.containers = containers
	b.start()
}

// faulty loses, refuses and delays what is proposed.
type faulty struct {
	events.Proposer
	mu     sync.Mutex
	random *rand.Rand
	rate   float64
}

// fail makes a share of the proposals fail from now on.
func (f *faulty) fail(rate float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rate = rate
}

func (f *faulty) draw() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rate == 0 {
		return 1
	}
	return f.random.Float64() / f.rate
}

func (f *faulty) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	switch d := f.draw(); {
	case d < 0.4:
		return events.Receipt{}, fmt.Errorf("lost on the way: %w", events.ErrUnavailable)
	case d < 0.8:
		if _, err := f.Proposer.Propose(ctx, p); err != nil {
			return events.Receipt{}, err
		}
		return events.Receipt{}, fmt.Errorf("the answer was lost: %w", events.ErrUncertain)
	case d < 1:
		time.Sleep(3 * time.Second)
	}
	return f.Proposer.Propose(ctx, p)
}

func (b *bubble) propose(c events.Change) {
	b.t.Helper()
	r, err := b.gate.Propose(b.t.Context(), events.Proposal{Decision: events.Decision{Changes: []events.Change{c}}, Actor: events.Actor{Kind: "api"}})
	if err == nil {
		err = b.view.Wait(b.t.Context(), r.Last)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

var web = events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}

func (b *bubble) create() {
	b.t.Helper()
	b.createWith(`{"image":"img","name":"a"}`)
}

// createWith creates the pod with these containers.
func (b *bubble) createWith(containers string) {
	b.t.Helper()
	b.createPod("web", "u1", containers)
}

// createPod creates a pod of the namespace shop with these containers.
func (b *bubble) createPod(name, uid, containers string) {
	b.t.Helper()
	ref := events.Ref{Resource: "pods", Namespace: "shop", Name: name}
	b.propose(events.Change{Type: "pod.created", Object: ref, UID: uid, Data: []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"generation":1,"name":"` + name + `","namespace":"shop","uid":"` + uid + `"},` +
		`"spec":{"containers":[` + containers + `],"nodeName":"n1","restartPolicy":"Always"},"status":{"phase":"Pending"}}`)})
}

func (b *bubble) delete() {
	b.t.Helper()
	b.propose(events.Change{Type: "pod.terminating", Object: web, UID: "u1", Data: []byte(
		`[{"op":"add","path":"/metadata/deletionGracePeriodSeconds","value":5},{"op":"add","path":"/metadata/deletionTimestamp","value":"2026-01-01T00:00:00Z"},{"op":"replace","path":"/metadata/generation","value":2}]`)})
}

// settle lets time pass.
func (b *bubble) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bubble) pod() *v1.Pod {
	if e := b.view.View().Get(web); e != nil {
		return projections.As[v1.Pod](e)
	}
	return nil
}

// history is what was told of the pod, each end of a container with its code.
func (b *bubble) history() string {
	b.t.Helper()
	last, err := b.log.Last(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for s := uint64(1); s <= last; s++ {
		e, err := b.log.Get(b.t.Context(), s)
		if err != nil {
			b.t.Fatal(err)
		}
		if e.Object != web {
			continue
		}
		text := e.Type
		if e.Type == "container.exited" {
			var note struct{ ExitCode int }
			if err := json.Unmarshal(e.Note, &note); err != nil {
				b.t.Fatal(err)
			}
			text += fmt.Sprintf("(%d)", note.ExitCode)
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

const (
	beginning = "pod.created pod.sandboxed container.started pod.ready"
	again     = " pod.unready container.started pod.ready"
	end       = " pod.terminating container.exited(143) pod.removed"
)

func TestHistoryOfAPod(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.create()
		b.settle(time.Second)
		b.runtime.Exit("a", 3)
		b.settle(time.Second)
		b.delete()
		b.settle(10 * time.Second)
		if got, want := b.history(), beginning+" container.exited(3)"+again+end; got != want {
			t.Errorf("the history is\n%s, want\n%s", got, want)
		}
		if sandboxes, containers := b.runtime.Size(); sandboxes+containers > 0 {
			t.Errorf("left behind: %d sandboxes and %d containers", sandboxes, containers)
		}
		n := projections.As[v1.Node](b.view.View().Get(events.Ref{Resource: "nodes", Name: "n1"}))
		if n.Status.NodeInfo.ContainerRuntimeVersion != "hollow://1" {
			t.Errorf("the node says %+v", n.Status.NodeInfo)
		}
	})
}

// A node tells at once that it has seen that a pod is to end only if the pod's end is
// not there to tell it.
func TestSlowEnd(t *testing.T) {
	slow := hollow.Profile{Stop: hollow.Span{Min: metav1.Duration{Duration: 3 * time.Second}}}
	inBubbleOf(t, 0, slow, func(b *bubble) {
		b.create()
		b.settle(time.Second)
		b.delete()
		b.settle(2 * time.Second)
		if got, want := b.history(), beginning+" pod.terminating pod.observed"; got != want {
			t.Errorf("the history is\n%s, want\n%s", got, want)
		}
		if p := b.pod(); p == nil || p.Status.ObservedGeneration != p.Generation {
			t.Errorf("the pod is %+v", p)
		}
		b.settle(10 * time.Second)
		if got, want := b.history(), beginning+" pod.terminating pod.observed container.exited(143) pod.removed"; got != want {
			t.Errorf("the history is\n%s, want\n%s", got, want)
		}
	})
}

// TestNobodyDisturbs has the agent end and start again between any two steps.
func TestNobodyDisturbs(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		restart := func() {
			b.stop()
			b.start()
			b.settle(time.Second)
		}
		b.create()
		restart()
		b.settle(time.Second)
		before := b.history()
		restart()
		if got := b.history(); got != before {
			t.Errorf("a restart alone tells\n%s, after\n%s", got, before)
		}
		b.stop()
		b.runtime.Exit("a", 9)
		b.start()
		b.settle(time.Second)
		restart()
		b.stop()
		b.delete()
		b.start()
		b.settle(10 * time.Second)
		if got, want := b.history(), beginning+" container.exited(9)"+again+end; got != want {
			t.Errorf("the history is\n%s, want\n%s", got, want)
		}
	})
}

// TestFaults loses proposals and answers at random, while containers end and the
// agent restarts: every end is told exactly once, in order.
func TestFaults(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, seed, func(b *bubble) {
				b.create()
				b.settle(time.Minute)
				b.faults.fail(0.7)
				var want []string
				for code := range int32(6) {
					if b.faults.draw() < 0.3 {
						b.stop()
						b.start()
					}
					for waited := 0; !b.runtime.Exit("a", code+1); waited++ {
						if waited > 3600 {
							t.Errorf("the container does not run again within an hour after it ended with %d:\n%s", code, b.history())
							return
						}
						b.settle(time.Second)
					}
					want = append(want, fmt.Sprintf("container.exited(%d)", code+1))
				}
				b.settle(15 * time.Minute)
				b.faults.fail(0)
				b.settle(time.Minute)
				var got []string
				for _, fact := range strings.Fields(b.history()) {
					if strings.HasPrefix(fact, "container.exited") {
						got = append(got, fact)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("told are %v, want %v:\n%s", got, want, b.history())
				}
				if pod := b.pod(); pod == nil || pod.Status.ContainerStatuses[0].RestartCount != 6 || pod.Status.ContainerStatuses[0].State.Running == nil {
					t.Errorf("the pod is %+v", pod)
				}
				b.delete()
				b.settle(time.Minute)
				if b.pod() != nil {
					t.Error("the pod is not gone")
				}
			})
		})
	}
}
