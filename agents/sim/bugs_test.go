package sim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/sim"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"

	core "k8s.io/api/core/v1"
)

// wrapped is a decider of which what it decides is changed.
type wrapped struct {
	runner.Decider
	change func(v runner.View, item runner.Item, r *runner.Result)
}

// Decide implements runner.Decider.
func (d wrapped) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	r := d.Decider.Decide(v, item, now)
	d.change(v, item, &r)
	return r
}

// spoil changes what one decider decides.
func spoil(actor string, change func(v runner.View, item runner.Item, r *runner.Result)) func([]runner.Decider) []runner.Decider {
	return func(list []runner.Decider) []runner.Decider {
		for i, d := range list {
			if d.Actor().String() == actor {
				list[i] = wrapped{d, change}
			}
		}
		return list
	}
}

// crowded has the scheduler bind all that waits to the first node.
func crowded(v runner.View, item runner.Item, r *runner.Result) {
	r.Decisions = nil
	for node := range v.List("", "nodes", "") {
		for e := range v.OnNode("") {
			if projections.As[core.Pod](e).DeletionTimestamp == nil {
				r.Decisions = append(r.Decisions, runner.Patch(e, "pod.bound", item.Because, runner.Set("/spec/nodeName", node.Ref.Name)))
			}
		}
		return
	}
}

// again has the scheduler bind what is bound to whatever node comes first.
func again(v runner.View, item runner.Item, r *runner.Result) {
	for node := range v.List("", "nodes", "") {
		for other := range v.List("", "nodes", "") {
			for e := range v.OnNode(other.Ref.Name) {
				if other.Ref.Name != node.Ref.Name && len(r.Decisions) > 0 {
					r.Decisions = append(r.Decisions, runner.Patch(e, "pod.bound", item.Because, runner.Set("/spec/nodeName", node.Ref.Name)))
				}
			}
		}
		return
	}
}

// randomNames has a controller call what it creates by another name each time.
func randomNames() func(v runner.View, item runner.Item, r *runner.Result) {
	n := 0
	return func(_ runner.View, _ runner.Item, r *runner.Result) {
		for i := range r.Commands {
			c := &r.Commands[i]
			if c.Verb != runner.Create {
				continue
			}
			n++
			name := fmt.Sprintf("%s-%d", c.Object.Name, n)
			c.Body = []byte(strings.Replace(string(c.Body), fmt.Sprintf("%q:%q", "name", c.Object.Name), fmt.Sprintf("%q:%q", "name", name), 1))
			c.Object.Name = name
		}
	}
}

// oneMore has a controller create one more than it should.
func oneMore(_ runner.View, _ runner.Item, r *runner.Result) {
	for _, c := range r.Commands {
		if c.Verb == runner.Create {
			c.Body = []byte(strings.Replace(string(c.Body), fmt.Sprintf("%q:%q", "name", c.Object.Name), fmt.Sprintf("%q:%q", "name", c.Object.Name+"-more"), 1))
			c.Object.Name += "-more"
			r.Commands = append(r.Commands, c)
			return
		}
	}
}

// Each of these mistakes is found within some seeds, by the rule that it breaks.
func TestBugsAreFound(t *testing.T) {
	t.Parallel()
	for _, bug := range []struct {
		name, rule string
		bugs       func() sim.Bugs
	}{
		{"the committer ignores expectations", "expectations hold", func() sim.Bugs { return sim.Bugs{NoExpectations: true} }},
		{"the log has no fence", "the chain holds", func() sim.Bugs { return sim.Bugs{NoFence: true} }},
		{"the log forgets what it acknowledged", "what is acknowledged is stored once", func() sim.Bugs { return sim.Bugs{Forgets: true} }},
		{"the committer denies what may yet be stored", "what is denied is not stored", func() sim.Bugs { return sim.Bugs{Denies: true} }},
		{"nodes are not told what is removed", "folds agree", func() sim.Bugs { return sim.Bugs{FeedKeeps: true} }},
		{"the scheduler binds again", "nothing is bound twice", func() sim.Bugs { return sim.Bugs{Deciders: spoil("scheduler", again)} }},
		{"a node reports an end twice", "an end is told once", func() sim.Bugs { return sim.Bugs{ExitTwice: true} }},
		{"the scheduler ignores capacity", "no node is over capacity", func() sim.Bugs { return sim.Bugs{Deciders: spoil("scheduler", crowded)} }},
		{"pods get random names", "deciders are pure", func() sim.Bugs { return sim.Bugs{Deciders: spoil("controller:replicaset", randomNames())} }},
		{"a controller forgets the cause", "causes exist", func() sim.Bugs {
			return sim.Bugs{Deciders: spoil("controller:deployment", func(_ runner.View, _ runner.Item, r *runner.Result) {
				for i := range r.Decisions {
					r.Decisions[i].Because = 0
				}
			})}
		}},
		{"a controller writes what is not its own", "deciders keep the rules", func() sim.Bugs {
			return sim.Bugs{Deciders: spoil("controller:replicaset", func(_ runner.View, _ runner.Item, r *runner.Result) {
				for i := range r.Decisions {
					r.Decisions[i].Changes[0].Data = events.AppendPatch(nil, []events.Op{{Op: "replace", Path: "/spec/replicas", Value: []byte("1")}})
				}
			})}
		}},
		{"a controller creates one too many", "no more pods than asked for", func() sim.Bugs {
			return sim.Bugs{Deciders: spoil("controller:replicaset", oneMore)}
		}},
		{"a controller is deaf", "the cluster converges", func() sim.Bugs {
			return sim.Bugs{Deciders: spoil("controller:garbage", func(_ runner.View, _ runner.Item, r *runner.Result) { *r = runner.Result{} })}
		}},
	} {
		t.Run(bug.name, func(t *testing.T) {
			t.Parallel()
			const within = 400
			for seed := uint64(1); seed <= within; seed++ {
				o := run(t, sim.NewPlan(seed*32+1, 2), bug.bugs())
				if o.Failure == nil {
					continue
				}
				if bug.rule != "" && o.Failure.Rule != bug.rule {
					t.Fatalf("seed %d breaks another rule: %s", seed, o.Failure)
				}
				t.Logf("found at seed %d of %d: %s", seed, within, o.Failure)
				return
			}
			t.Fatalf("none of %d seeds finds it", within)
		})
	}
}

// TestShrink: what is left of a plan that fails breaks the same rule, and has nothing in it
// that need not be there.
func TestShrink(t *testing.T) {
	t.Parallel()
	play := func(p sim.Plan) sim.Outcome { return run(t, p, sim.Bugs{ExitTwice: true}) }
	for seed := uint64(1); seed < 400; seed++ {
		p := sim.NewPlan(seed, 2)
		o := play(p)
		if o.Failure == nil || len(p.Steps) < 6 {
			continue
		}
		small, less := sim.Shrink(p, o, shrinks, play)
		if less.Failure == nil || less.Failure.Rule != o.Failure.Rule {
			t.Fatalf("seed %d broke %q, and what is left of it %v", seed, o.Failure.Rule, less.Failure)
		}
		if again := play(small); again.Hash != less.Hash {
			t.Errorf("seed %d: what is left does otherwise when it is played again", seed)
		}
		// A Deployment and the end of a container are all that it takes.
		if len(small.Steps) > 2 || small.Noise != (sim.Noise{}) || small.Servers > 1 || small.Nodes > 1 || small.End >= p.End {
			t.Errorf("of seed %d is left:\n%s", seed, small)
		}
		return
	}
	t.Fatal("no seed fails")
}
