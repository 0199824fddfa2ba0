package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"time"

	"github.com/reprise-run/reprise/agents/controllers/deployment"
	"github.com/reprise-run/reprise/agents/controllers/garbage"
	"github.com/reprise-run/reprise/agents/controllers/namespace"
	"github.com/reprise-run/reprise/agents/controllers/nodelifecycle"
	"github.com/reprise-run/reprise/agents/controllers/podgc"
	"github.com/reprise-run/reprise/agents/controllers/replicaset"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
)

// Bugs are what a test puts in to see that it is found.
type Bugs struct {
	// NoExpectations has the committer append whatever the writer expected.
	NoExpectations bool
	// NoFence has the log append whoever has appended meanwhile.
	NoFence bool
	// Forgets has the log acknowledge what it then does not store, now and then.
	Forgets bool
	// Denies has the committer say that it has not appended what may yet be stored.
	Denies bool
	// FeedKeeps has servers not tell nodes what is removed.
	FeedKeeps bool
	// ExitTwice has nodes report an end of a container again.
	ExitTwice bool
	// Deciders puts others in the place of those that decide.
	Deciders func([]runner.Decider) []runner.Decider
}

// Outcome is what came of a run.
type Outcome struct {
	// Failure is nil if all went well.
	Failure *Failure
	Events  []events.Event
	// Hash is the SHA-256 of the log in text form.
	Hash string
	// Took is how long it was on the virtual clock.
	Took time.Duration
}

// at is when an event was appended, since the start of the run.
func (o Outcome) at(e *events.Event) time.Duration { return e.Time.Sub(runnertest.Epoch) }

// Run plays a plan on an empty log, which must be in memory.
func Run(p Plan, empty events.Log, bugs Bugs) Outcome {
	w := &world{plan: p, empty: empty, bugs: bugs, noise: p.Noise, random: rand.New(rand.NewPCG(p.Seed, ^uint64(stream)))}
	w.begin()
	defer w.end()
	w.until(p.End, nil)
	w.settle()
	return w.outcome()
}

// end stops all that waits in its middle, which would be kept for ever.
func (w *world) end() {
	w.log.stop()
	w.users.stop()
	for _, s := range w.servers {
		s.stop()
	}
	for _, n := range w.nodes {
		n.stop()
		n.machine.stop()
	}
}

// begin starts all parts, and puts the plan on the agenda.
func (w *world) begin() {
	p := w.plan
	w.referee = newReferee(w)
	w.log = newLog(w, w.empty)
	w.lease = map[string]*lease{"committer": {}, "deciders": {}}
	w.users = &users{host: w.host("users")}
	w.users.start()
	for i := range p.Servers {
		w.servers = append(w.servers, newServer(w, i))
	}
	for i := range p.Nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	for _, s := range p.Steps {
		w.after(s.At, func() { w.do(s) })
	}
}

func (w *world) outcome() Outcome {
	h := sha256.New()
	for i := range w.referee.events {
		h.Write([]byte(w.referee.events[i].Text()))
	}
	return Outcome{Failure: w.failed, Events: w.referee.events, Hash: hex.EncodeToString(h.Sum(nil)), Took: w.now}
}

// deciders are those that decide in every server.
func (w *world) deciders() []runner.Decider {
	list := []runner.Decider{
		scheduler.New(""), deployment.New(), replicaset.New(), garbage.New(), namespace.New(), podgc.New(podgc.Options{}),
		nodelifecycle.New(nodelifecycle.Options{Since: w.time()}),
	}
	if w.bugs.Deciders != nil {
		list = w.bugs.Deciders(list)
	}
	for i, d := range list {
		list[i] = again{d, w}
	}
	return list
}

// do has a step happen.
func (w *world) do(s Step) {
	switch s.Verb {
	case crashServer:
		x := w.servers[s.Number]
		if x.up {
			x.stop()
			w.after(s.For, x.boot)
		}
	case freeze:
		x := w.servers[s.Number]
		x.frozen = max(x.frozen, w.now+s.For)
	case cutServer:
		x := w.servers[s.Number]
		x.cut = max(x.cut, w.now+s.For)
	case crashLog:
		w.log.frozen = max(w.log.frozen, w.now+s.For)
	case crashAgent:
		w.nodes[s.Number].crash(s.For)
	case crashNode:
		w.nodes[s.Number].failPower(s.For)
	case cutNode:
		x := w.nodes[s.Number]
		x.cut = max(x.cut, w.now+s.For)
	case crashPod:
		w.crashContainer(s.Number)
	case loseNode:
		w.nodes[s.Number].lose(s.For)
	default:
		w.users.do(s)
	}
}

func (w *world) crashContainer(pick int) {
	for i := range w.nodes {
		n := w.nodes[(pick+i)%len(w.nodes)]
		if uid, any := n.machine.crash(pick, int32(pick%3)); any {
			if k := n.workers[uid]; k != nil && n.up && !w.chance(w.noise.Lost) {
				n.after(w.between(0, 10*time.Millisecond), k.kick)
			}
			return
		}
	}
}

// crash stops the agent and starts it again later.
func (n *node) crash(d time.Duration) {
	if !n.up {
		return
	}
	n.stop()
	n.w.after(d, func() {
		if n.machine.up && !n.up {
			n.boot()
		}
	})
}

// failPower stops the machine and all on it, and starts it again later.
func (n *node) failPower(d time.Duration) {
	if n.lost || !n.machine.up {
		return
	}
	n.stop()
	n.machine.fail()
	n.w.after(d, func() {
		if !n.lost {
			n.machine.start()
			n.boot()
		}
	})
}

// lose takes the machine away for good, if it is not the last one. Later a user
// removes the Node.
func (n *node) lose(d time.Duration) {
	left := 0
	for _, o := range n.w.nodes {
		if !o.lost {
			left++
		}
	}
	if n.lost || left == 1 {
		return
	}
	n.lost = true
	n.stop()
	n.machine.fail()
	n.machine.pods = map[string]*running{}
	n.w.after(d, func() {
		const insistently = 1000 // until it is gone, the cluster cannot come to rest
		n.w.users.command(insistently, runner.Command{Verb: runner.Delete, Object: n.self()})
	})
}

// settle ends all faults, and waits until the cluster is as it should be and says
// nothing more.
func (w *world) settle() {
	w.noise = Noise{}
	w.log.frozen = 0
	for _, s := range w.servers {
		s.cut, s.frozen = 0, 0
	}
	for _, n := range w.nodes {
		n.cut = 0
	}
	const patience, quiet = 40 * time.Minute, time.Minute
	end, last, since := w.now+patience, w.log.last, w.now
	reason := "it was not looked at"
	for w.failed == nil {
		w.until(w.now+5*time.Second, nil)
		if w.log.last != last {
			last, since = w.log.last, w.now
			if w.now < end {
				continue
			}
		}
		if w.now-since < quiet && w.now < end {
			continue
		}
		if reason = w.referee.unsettled(); reason == "" {
			w.referee.final()
			return
		}
		if w.now >= end {
			w.fail("the cluster converges", "%s after all faults have ended: %s", patience, reason)
		}
	}
}
