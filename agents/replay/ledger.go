package replay

import (
	"math"
	"slices"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
)

// ledger adds up over time what pods ask for of the nodes that they are on.
type ledger struct {
	nodes map[string]*usage
	pods  map[string]load // by uid
	all   usage
	inUse stat // how many nodes have pods
}

// load is what a pod asks for.
type load struct {
	node        string
	cpu, memory int64
}

// usage is how far a node, or all of them, is taken.
type usage struct {
	pods                        int
	cpu, memory                 int64
	allocatableCPU, allocatable int64 // of memory, the latter
	since                       time.Time
	cpuOverTime, memoryOverTime stat
	// known says that there was such a node, gone that it is no more.
	known, gone bool
	busy        int // of all: how many nodes have pods
}

// stat is a value over time.
type stat struct{ seconds, sum, squares, max float64 }

func (s *stat) add(value, seconds float64) {
	s.max = max(s.max, value)
	s.seconds += seconds
	s.sum += value * seconds
	s.squares += value * value * seconds
}

// Level is how a share developed: its mean, greatest value and standard deviation
// over time, in per cent.
type Level struct {
	Mean   float64 `json:"mean"`
	Max    float64 `json:"max"`
	StdDev float64 `json:"stddev"`
}

func (s *stat) level() Level {
	l := Level{Max: round(s.max)}
	if s.seconds > 0 {
		mean := s.sum / s.seconds
		l.Mean, l.StdDev = round(mean), round(math.Sqrt(max(s.squares/s.seconds-mean*mean, 0)))
	}
	return l
}

// round leaves one digit: what machines may compute differently is beyond that.
func round(v float64) float64 { return math.Round(v*10) / 10 }

func newLedger() *ledger { return &ledger{nodes: map[string]*usage{}, pods: map[string]load{}} }

func (u *usage) advance(now time.Time) {
	if !u.since.IsZero() && !u.gone {
		seconds := now.Sub(u.since).Seconds()
		if u.allocatableCPU > 0 {
			u.cpuOverTime.add(100*float64(u.cpu)/float64(u.allocatableCPU), seconds)
		}
		if u.allocatable > 0 {
			u.memoryOverTime.add(100*float64(u.memory)/float64(u.allocatable), seconds)
		}
	}
	u.since = now
}

// settle counts the time that has passed for a node and for all.
func (l *ledger) settle(node string, now time.Time) *usage {
	u := l.nodes[node]
	if u == nil {
		u = &usage{}
		l.nodes[node] = u
	}
	if !l.all.since.IsZero() {
		l.inUse.add(float64(l.all.busy), now.Sub(l.all.since).Seconds())
	}
	u.advance(now)
	l.all.advance(now)
	return u
}

func (l *ledger) setNode(n *core.Node, now time.Time) {
	u := l.settle(n.Name, now)
	cpu, memory := n.Status.Allocatable.Cpu().MilliValue(), n.Status.Allocatable.Memory().Value()
	if u.gone {
		u.gone, u.allocatableCPU, u.allocatable = false, 0, 0
	}
	l.all.allocatableCPU += cpu - u.allocatableCPU
	l.all.allocatable += memory - u.allocatable
	u.allocatableCPU, u.allocatable, u.known = cpu, memory, true
}

func (l *ledger) removeNode(name string, now time.Time) {
	u := l.settle(name, now)
	if u.gone {
		return
	}
	l.all.allocatableCPU -= u.allocatableCPU
	l.all.allocatable -= u.allocatable
	u.gone = true
}

func (l *ledger) place(uid string, p load, now time.Time) {
	if _, there := l.pods[uid]; there || p.node == "" {
		return
	}
	l.pods[uid] = p
	l.count(p, 1, now)
}

func (l *ledger) leave(uid string, now time.Time) {
	p, there := l.pods[uid]
	if !there {
		return
	}
	delete(l.pods, uid)
	l.count(p, -1, now)
}

func (l *ledger) count(p load, sign int64, now time.Time) {
	u := l.settle(p.node, now)
	was := u.pods > 0
	u.pods += int(sign)
	if is := u.pods > 0; is != was {
		l.all.busy += int(sign)
	}
	for _, x := range []*usage{u, &l.all} {
		x.cpu += sign * p.cpu
		x.memory += sign * p.memory
	}
}

// finish counts up to the end.
func (l *ledger) finish(now time.Time) {
	for name := range l.nodes {
		l.nodes[name].advance(now)
	}
	if !l.all.since.IsZero() {
		l.inUse.add(float64(l.all.busy), now.Sub(l.all.since).Seconds())
	}
	l.all.advance(now)
}

// names are the nodes, in order.
func (l *ledger) names() []string {
	var all []string
	for name, u := range l.nodes {
		if u.known {
			all = append(all, name)
		}
	}
	slices.SortFunc(all, strings.Compare)
	return all
}
