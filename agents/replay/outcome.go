package replay

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/reprise-run/reprise/agents/scheduler"
)

// Placement is a pod that would run elsewhere.
type Placement struct {
	Pod     string `json:"pod"`
	Created uint64 `json:"created"`
	// Then and Now are the nodes, empty for none, and the reasons for them.
	Then    string   `json:"then,omitempty"`
	Now     string   `json:"now,omitempty"`
	ThenWhy []string `json:"thenWhy,omitempty"`
	NowWhy  []string `json:"nowWhy,omitempty"`
}

func (f *fate) placement() Placement {
	p := Placement{Pod: f.ref.String(), Created: f.sequence, Then: f.node[then], Now: f.node[now]}
	p.ThenWhy, _ = scheduler.Readable(f.note[then])
	p.NowWhy, _ = scheduler.Readable(f.note[now])
	if p.Now == "" {
		p.NowWhy = []string{f.whyNot()}
	}
	return p
}

func (f *fate) whyNot() string {
	switch {
	case f.why != "":
		return f.why
	case f.gone:
		return "it was deleted before"
	}
	return "the history ends before"
}

// Text is the placement for people.
func (p Placement) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s -> %s\n", p.Pod, orNone(p.Then), orNone(p.Now))
	for _, side := range []struct {
		when string
		why  []string
	}{{"then", p.ThenWhy}, {"now", p.NowWhy}} {
		for i, line := range side.why {
			if i > 0 {
				side.when = ""
			}
			fmt.Fprintf(&b, "  %-5s %s\n", side.when, line)
		}
	}
	return b.String()
}

func orNone(node string) string {
	if node == "" {
		return "(no node)"
	}
	return node
}

// Outcome says how a trial came out.
type Outcome struct {
	// Same and Different count the pods that were bound then and would be now, by
	// whether the node is the same; OnlyThen and OnlyNow those that were bound in
	// the one case alone, and Neither those that were in none.
	Same      int `json:"same"`
	Different int `json:"different"`
	OnlyThen  int `json:"onlyThen"`
	OnlyNow   int `json:"onlyNow"`
	Neither   int `json:"neither"`
	// Fixed are the pods that others than the scheduler put on their node.
	Fixed int `json:"fixed"`
	// Stranded are pods that left because their node did; Ignored are changes of
	// pods that could not be applied.
	Stranded int `json:"stranded"`
	Ignored  int `json:"ignored"`
	// Latency is how long each decision is taken to last.
	Latency time.Duration `json:"latency"`
	// Then and Now are as it was and as it would have been.
	Then Course `json:"then"`
	Now  Course `json:"now"`
}

// Course is how pods waited and nodes were used.
type Course struct {
	Waited Waits `json:"waited"`
	// All is over all nodes, and InUse how many of them had pods.
	All   Use       `json:"all"`
	InUse Level     `json:"nodesInUse"`
	Nodes []NodeUse `json:"nodes"`
}

// Waits are the times from a pod's creation to its binding.
type Waits struct {
	Pods int           `json:"pods"`
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
	Max  time.Duration `json:"max"`
}

// Use is what pods asked for of what there is.
type Use struct {
	CPU    Level `json:"cpu"`
	Memory Level `json:"memory"`
}

// NodeUse is the Use of a node.
type NodeUse struct {
	Node string `json:"node"`
	Use
}

// Finish ends the trial with the history.
func (t *Trial) Finish() Outcome {
	o := t.outcome
	o.Latency = t.latency
	var left []*fate
	for _, f := range t.open {
		left = append(left, f)
	}
	slices.SortFunc(left, func(a, b *fate) int { return int(a.sequence) - int(b.sequence) })
	for _, f := range left {
		switch {
		case f.node[then] != "":
			o.OnlyThen++
		case f.node[now] != "":
			o.OnlyNow++
		default:
			o.Neither++
			continue
		}
		t.tell(f.placement())
	}
	o.Then, o.Now = t.course(t.then, then), t.course(t.is, now)
	return o
}

func (t *Trial) course(l *ledger, when int) Course {
	l.finish(t.now)
	c := Course{Waited: waits(t.waited[when]), All: l.all.use(), InUse: l.inUse.level()}
	for _, name := range l.names() {
		c.Nodes = append(c.Nodes, NodeUse{name, l.nodes[name].use()})
	}
	return c
}

func (u *usage) use() Use { return Use{u.cpuOverTime.level(), u.memoryOverTime.level()} }

func waits(all []time.Duration) Waits {
	if len(all) == 0 {
		return Waits{}
	}
	slices.Sort(all)
	at := func(percent int) time.Duration { return all[min(len(all)*percent/100, len(all)-1)] }
	return Waits{Pods: len(all), P50: at(50), P99: at(99), Max: all[len(all)-1]}
}

// Assumptions are what a trial takes for granted.
const Assumptions = `This is a simulation. It takes for granted that
- pods and nodes come as they did, whatever the scheduler decides: no controller
  makes other pods, no node fails for another reason
- a pod runs as long as it did from its binding on; one that was deleted while it
  would still wait is gone then
- each decision takes as long as it took at the median, and covers all that wait
- images are where they were, and what a pod asks for is what it needs
`

// Text is the outcome for people.
func (o Outcome) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "placements: %d the same, %d on another node, %d bound only then, %d bound only now, %d never\n",
		o.Same, o.Different, o.OnlyThen, o.OnlyNow, o.Neither)
	if o.Fixed+o.Stranded+o.Ignored > 0 {
		fmt.Fprintf(&b, "            %d put on their node by others; %d left with their node; %d changes of pods not followed\n", o.Fixed, o.Stranded, o.Ignored)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nPENDING\tPODS\tP50\tP99\tMAX")
	for _, c := range []struct {
		when string
		Waits
	}{{"then", o.Then.Waited}, {"now", o.Now.Waited}} {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", c.when, c.Pods, c.P50, c.P99, c.Max)
	}
	fmt.Fprintln(w, "\nREQUESTED, %\tCPU THEN\t\t\tCPU NOW\t\t\tMEMORY THEN\t\t\tMEMORY NOW\t\t")
	fmt.Fprintln(w, "NODE\tMEAN\tMAX\tSTDDEV\tMEAN\tMAX\tSTDDEV\tMEAN\tMAX\tSTDDEV\tMEAN\tMAX\tSTDDEV")
	line := func(name string, was, is Use) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, was.CPU, is.CPU, was.Memory, is.Memory)
	}
	line("all", o.Then.All, o.Now.All)
	for i, n := range o.Then.Nodes {
		line(n.Node, n.Use, o.Now.Nodes[i].Use)
	}
	_ = w.Flush() // a Builder takes all
	fmt.Fprintf(&b, "\nnodes with pods: %.1f on average then, %.1f now\n", o.Then.InUse.Mean, o.Now.InUse.Mean)
	return b.String()
}

// String is the three figures in columns.
func (l Level) String() string { return fmt.Sprintf("%.1f\t%.1f\t%.1f", l.Mean, l.Max, l.StdDev) }
