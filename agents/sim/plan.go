package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Plan is all that a run is made of.
type Plan struct {
	Seed           uint64
	Servers, Nodes int
	Noise          Noise
	// Group is how many events the committer appends at once at most; 0 for as many as in
	// production, which a run of this size never fills.
	Group int
	// Singly says that the committer appends decision by decision where few wait, as on the
	// log of volatile objects, and not the group at once.
	Singly bool
	// Replicas says that the log says no to what does not follow on all that it has under
	// way, and stores that a while later, as one with replicas does.
	Replicas bool
	// Steps are what users do and what fails, in the order of their times. All
	// faults end at the latest at End, and the noise with them.
	Steps []Step
	End   time.Duration
}

// Noise says how often small things go wrong, in thousandths.
type Noise struct {
	// Lost messages never arrive, Slow ones take up to some seconds.
	Lost, Slow int
	// Refused appends are not stored, and the log says so.
	Refused int
	// Fails says how often the container runtime does not do what it is told, or
	// does it and does not say so.
	Fails int
}

// Step is something that a user does or that happens to a machine.
type Step struct {
	At   time.Duration
	Verb string
	// Name is the Deployment's, Number is what the verb takes: how many replicas,
	// which server or node, which of several.
	Name   string
	Number int
	// For is how long a fault lasts.
	For time.Duration
}

// The verbs: first what users do, then what happens to machines.
const (
	create   = "create"   // a Deployment of Number replicas
	scale    = "scale"    // to Number
	rollout  = "rollout"  // another image
	destroy  = "delete"   // the Deployment; Number says how its dependents go
	killPod  = "kill"     // a user deletes a pod of it, at once if Number is odd
	cordon   = "cordon"   // node Number
	uncordon = "uncordon" // node Number

	crashServer = "crash-server" // its memory is lost; it starts again after For
	freeze      = "freeze-server"
	cutServer   = "cut-server" // from the log and everybody
	crashAgent  = "crash-agent"
	crashNode   = "crash-node" // power is lost
	cutNode     = "cut-node"
	crashPod    = "crash-container" // the Number-th that runs ends by itself
	loseNode    = "lose-node"       // for good; a user removes the Node after For
	crashLog    = "stop-log"        // it does not answer for a while
)

// String is the step in one line.
func (s Step) String() string {
	out := fmt.Sprintf("%8s %s", s.At.Round(time.Millisecond), s.Verb)
	if s.Name != "" {
		out += " " + s.Name
	}
	out += fmt.Sprintf(" %d", s.Number)
	if s.For > 0 {
		out += " for " + s.For.Round(time.Millisecond).String()
	}
	return out
}

// String is the plan, a line a step.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: servers %d, nodes %d, groups %d, singly %t, replicas %t, per mille: lost %d, slow %d, refused %d, fails %d; quiet from %s\n",
		p.Seed, p.Servers, p.Nodes, p.Group, p.Singly, p.Replicas, p.Noise.Lost, p.Noise.Slow, p.Noise.Refused, p.Noise.Fails, p.End)
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	return b.String()
}

// stream tells the plan's random numbers from those of the run.
const stream = 0x5eed

// NewPlan makes a seed's plan. size is about how much happens: 1 is for thousands
// of seeds.
func NewPlan(seed uint64, size int) Plan {
	r := rand.New(rand.NewPCG(seed, stream))
	p := Plan{Seed: seed, Servers: 1, Nodes: 1 + r.IntN(2+size/2), End: time.Duration(10+15*size) * time.Second}
	if r.IntN(4) == 0 {
		p.Servers = 2
	}
	if r.IntN(3) > 0 {
		p.Noise = Noise{Lost: r.IntN(40), Slow: r.IntN(30), Refused: r.IntN(30), Fails: r.IntN(60)}
	}
	names := []string{"web", "api", "db", "job"}[:min(1+r.IntN(size+1)*r.IntN(2), 4)]
	at := func(from, to time.Duration) time.Duration {
		return (from + time.Duration(r.Int64N(int64(to-from)))).Round(time.Millisecond)
	}
	for _, name := range names {
		p.Steps = append(p.Steps, Step{At: at(0, 2*time.Second), Verb: create, Name: name, Number: 1 + r.IntN(1+size)})
	}
	for range r.IntN(3 * size) {
		p.Steps = append(p.Steps, userStep(r, p, names, at(2*time.Second, p.End)))
	}
	for range r.IntN(2 + 2*size) {
		p.Steps = append(p.Steps, faultStep(r, p, names, at(time.Second, p.End)))
	}
	slices.SortStableFunc(p.Steps, func(a, b Step) int { return int(a.At - b.At) })
	p.Group = []int{0, 4, 12}[r.IntN(3)]
	p.Singly, p.Replicas = r.IntN(4) == 0, r.IntN(3) == 0
	return p
}

func userStep(r *rand.Rand, p Plan, names []string, at time.Duration) Step {
	s := Step{At: at, Name: names[r.IntN(len(names))]}
	switch r.IntN(12) {
	case 0, 1, 2:
		s.Verb, s.Number = scale, r.IntN(5)
	case 3, 4, 5:
		s.Verb, s.Number = rollout, r.IntN(100)
	case 6:
		s.Verb, s.Number = destroy, r.IntN(3)
	case 7:
		s.Verb, s.Number = create, 1+r.IntN(3)
	case 8, 9:
		s.Verb, s.Number = killPod, r.IntN(100)
	case 10:
		s.Verb, s.Name, s.Number = cordon, "", r.IntN(p.Nodes)
	default:
		s.Verb, s.Name, s.Number = uncordon, "", r.IntN(p.Nodes)
	}
	return s
}

func faultStep(r *rand.Rand, p Plan, names []string, at time.Duration) Step {
	s := Step{At: at, For: (time.Duration(r.Int64N(int64(20 * time.Second)))).Round(time.Millisecond)}
	switch r.IntN(12) {
	case 0, 1:
		s.Verb, s.Number = crashServer, r.IntN(p.Servers)
	case 2:
		s.Verb, s.Number = freeze, r.IntN(p.Servers)
	case 3:
		s.Verb, s.Number = cutServer, r.IntN(p.Servers)
	case 4:
		s.Verb = crashLog
	case 5, 6:
		s.Verb, s.Number = crashAgent, r.IntN(p.Nodes)
	case 7:
		s.Verb, s.Number = crashNode, r.IntN(p.Nodes)
	case 8, 9:
		s.Verb, s.Number = cutNode, r.IntN(p.Nodes)
		if r.IntN(3) == 0 {
			s.For += 60 * time.Second
		}
	case 10:
		s.Verb, s.Number, s.For = crashPod, r.IntN(100), 0
	default:
		s.Verb, s.Number, s.Name = loseNode, r.IntN(p.Nodes), ""
		s.For += 20 * time.Second
	}
	return s
}
