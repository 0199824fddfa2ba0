package scheduler

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Whatever the nodes and pods: no node is filled beyond what it has, a pod that
// is refused really fits nowhere in the end, and a pass over the outcome decides
// nothing.
func FuzzNothingIsOvercommitted(f *testing.F) {
	for seed := range int64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed int64) {
		r := rand.New(rand.NewSource(seed))
		state := randomCluster(r, r.Intn(2) == 0)
		s := New("")
		for pass := range 3 {
			before := state.View()
			now := time.Unix(int64(pass), 0)
			item := runner.Item{Ref: queue, Because: 1}
			result := s.Decide(runner.View{Reader: before}, item, now)
			if fresh := New("").Decide(runner.View{Reader: before}, item, now); fresh.Digest() != result.Digest() {
				t.Fatalf("what it remembers makes it decide %d things otherwise, or other ones: %d", len(fresh.Decisions), len(result.Decisions))
			}
			decisions := result.Decisions
			if pass > 0 && len(decisions) > 0 {
				t.Fatalf("fed with its own output it decides: %s on %s", decisions[0].Changes[0].Type, decisions[0].Changes[0].Object)
			}
			fold(t, state, decisions)
			check(t, state.View())
		}
	})
}

func randomCluster(r *rand.Rand, related bool) *projections.State {
	s := projections.NewState()
	for i := range r.Intn(6) {
		taint := ""
		if r.Intn(4) == 0 {
			taint = `"taints":[{"key":"k","effect":"NoSchedule"}],`
		}
		put(s, "nodes", "", fmt.Sprintf("n%d", i), "Node", fmt.Sprintf(`"zone":"z%d","host":"h%d"`, r.Intn(3), i), fmt.Sprintf(
			`"spec":{%s"unschedulable":%t},"status":{"allocatable":{"cpu":"%dm","memory":"%dMi","pods":"%d"}}`,
			taint, r.Intn(5) == 0, r.Intn(4000), r.Intn(4096), r.Intn(12)))
	}
	for i := range r.Intn(40) {
		spec, phase := "", "Pending"
		if r.Intn(3) == 0 {
			spec = `"tolerations":[{"operator":"Exists"}],`
		}
		if r.Intn(8) == 0 {
			phase = "Succeeded"
		}
		if r.Intn(4) == 0 {
			spec += fmt.Sprintf(`"priority":%d,`, r.Intn(3))
		}
		if related && r.Intn(2) == 0 {
			spec += randomRules(r)
		}
		put(s, "pods", "ns", fmt.Sprintf("p%d", i), "Pod", fmt.Sprintf(`"app":"a%d"`, r.Intn(3)), fmt.Sprintf(
			`"spec":{%s"containers":[{"name":"c","image":"i%d","ports":[{"containerPort":1,"hostPort":%d}],"resources":{"requests":{"cpu":"%dm","memory":"%dMi"}}}]},"status":{"phase":%q}`,
			spec, r.Intn(3), r.Intn(4), 100*r.Intn(12), 100*r.Intn(12), phase))
	}
	return s
}

func randomRules(r *rand.Rand) string {
	selector := fmt.Sprintf(`"labelSelector":{"matchLabels":{"app":"a%d"}}`, r.Intn(3))
	key := []string{"zone", "host"}[r.Intn(2)]
	switch r.Intn(4) {
	case 0:
		return fmt.Sprintf(`"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":%q,"whenUnsatisfiable":"DoNotSchedule",%s}],`, key, selector)
	case 1:
		return fmt.Sprintf(`"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":%q,"whenUnsatisfiable":"ScheduleAnyway",%s}],`, key, selector)
	case 2:
		return fmt.Sprintf(`"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":%q,%s}]}},`, key, selector)
	}
	return fmt.Sprintf(`"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":%q,%s}]}},`, key, selector)
}

func put(s *projections.State, resource, namespace, name, kind, labels, rest string) {
	sequence := s.Sequence() + 1
	raw, err := events.Canonical([]byte(fmt.Sprintf(`{"apiVersion":"v1","kind":%q,"metadata":{"name":%q,"namespace":%q,"labels":{%s}},%s}`, kind, name, namespace, labels, rest)))
	if err != nil {
		panic(err)
	}
	s.Put(projections.NewEntry(events.Ref{Resource: resource, Namespace: namespace, Name: name}, name, sequence, sequence, raw))
	s.StartAt(sequence)
}

func fold(t *testing.T, s *projections.State, decisions []events.Decision) {
	t.Helper()
	for _, d := range decisions {
		c := d.Changes[0]
		ev := events.Event{Sequence: s.Sequence() + 1, Type: c.Type, Object: c.Object, UID: c.UID, Actor: events.Actor{Kind: "scheduler"}, Data: c.Data, Note: c.Note}
		if _, err := s.Fold([]events.Event{ev}); err != nil {
			t.Fatal(err)
		}
	}
}

// check asserts the invariants with rules written out anew.
func check(t *testing.T, v projections.Reader) {
	t.Helper()
	type room struct{ cpu, memory, pods int64 }
	left := map[string]room{}
	for e := range v.List("", "nodes", "") {
		a := projections.As[v1.Node](e).Status.Allocatable
		r := room{a.Cpu().MilliValue(), a.Memory().Value(), a.Pods().Value()}
		ports := map[int32]bool{}
		for p := range v.OnNode(e.Ref.Name) {
			checkPeace(t, v, e, projections.As[v1.Pod](p))
			c := projections.As[v1.Pod](p).Spec.Containers[0]
			r.cpu -= c.Resources.Requests.Cpu().MilliValue()
			r.memory -= c.Resources.Requests.Memory().Value()
			r.pods--
			if port := c.Ports[0].HostPort; port > 0 {
				if ports[port] {
					t.Errorf("port %d of %s is taken twice", port, e.Ref.Name)
				}
				ports[port] = true
			}
		}
		// A pod that asks for nothing of a resource may go to a node that has
		// none of it.
		if r.cpu < 0 || r.memory < 0 || r.pods < 0 {
			t.Errorf("%s is filled beyond what it has: %+v", e.Ref.Name, r)
		}
		left[e.Ref.Name] = r
	}
	related := false // some pod keeps others away
	for e := range v.List("", "pods", "") {
		related = related || isPicky(projections.As[v1.Pod](e))
	}
	for e := range v.OnNode("") {
		p := projections.As[v1.Pod](e)
		if isOver(p) || len(p.Spec.TopologySpreadConstraints) > 0 || related {
			continue
		}
		for node, r := range left {
			n := projections.As[v1.Node](v.Get(events.Ref{Resource: "nodes", Name: node}))
			c := p.Spec.Containers[0]
			plain := len(n.Spec.Taints) == 0 && !n.Spec.Unschedulable && c.Ports[0].HostPort == 0
			if plain && r.pods > 0 && r.cpu >= c.Resources.Requests.Cpu().MilliValue() && r.memory >= c.Resources.Requests.Memory().Value() {
				t.Errorf("%s waits, though %s would take it", p.Name, node)
			}
		}
	}
}

// checkPeace asserts that no pod is in the domain of one that it does not want
// to be with.
func checkPeace(t *testing.T, v projections.Reader, node *projections.Entry, p *v1.Pod) {
	t.Helper()
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return
	}
	rule := p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0]
	for other := range v.List("", "nodes", "") {
		if other.Meta().Labels[rule.TopologyKey] != node.Meta().Labels[rule.TopologyKey] {
			continue
		}
		for q := range v.OnNode(other.Ref.Name) {
			if q.Ref.Name != p.Name && q.Meta().Labels["app"] == rule.LabelSelector.MatchLabels["app"] {
				t.Errorf("%s is with %s, which it does not want", p.Name, q.Ref.Name)
			}
		}
	}
}
