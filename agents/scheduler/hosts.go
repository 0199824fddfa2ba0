package scheduler

import (
	"maps"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// host is a node and what is taken of it.
type host struct {
	nodeFacts
	pods                  int64
	used                  amounts
	cpuScore, memoryScore int64
	ports                 []port
}

// nodeFacts is what a version of a node says, made ready for comparing.
type nodeFacts struct {
	entry       *projections.Entry
	node        *v1.Node
	hash        uint64
	allocatable amounts
	maxPods     int64
	images      map[string]int64 // name to bytes
}

// take counts a pod against the host.
func (h *host) take(r *request) {
	h.pods++
	h.used = h.used.add(r.amounts)
	h.cpuScore += r.cpuScore
	h.memoryScore += r.memoryScore
	h.ports = append(h.ports, r.ports...)
}

// memo remembers what was computed from versions of nodes and pods. It changes
// nothing but the time that deciding takes.
type memo struct {
	policy *policy

	mu    sync.Mutex
	hosts map[string]*known // by the node's name
	// profiles are by class and for these versions of the nodes; for others there
	// is another map.
	profiles map[string]*profile
	order    []*projections.Entry
}

// known is a host with what the pods on it take up, and what that was computed from.
type known struct {
	host
	picky bool
	stamp *projections.Stamp // nil: not known
	on    map[string]*podFacts
}

// podFacts is what a version of a bound pod takes up.
type podFacts struct {
	entry   *projections.Entry
	pod     *v1.Pod
	over    bool
	picky   bool
	request *request
}

func newMemo(p *policy) *memo {
	return &memo{policy: p, hosts: map[string]*known{}, profiles: map[string]*profile{}}
}

// batch returns a pass over the nodes in the order of their names, with what the
// pods that are bound to them take up.
func (m *memo) batch(v runner.View, waiting []waitingPod) *batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	picky := slices.ContainsFunc(waiting, func(p waitingPod) bool { return isPicky(p.pod) })
	var hosts []host
	var order []*projections.Entry
	for e := range v.List("", "nodes", "") {
		order = append(order, e)
		k := m.host(v, e)
		picky = picky || k.picky
		h := k.host
		h.ports = slices.Clip(h.ports) // what is taken of it in this batch is not to be seen by the next
		hosts = append(hosts, h)
	}
	if !slices.Equal(order, m.order) {
		m.order = order
		m.profiles = map[string]*profile{}
		maps.DeleteFunc(m.hosts, func(name string, _ *known) bool { return v.Get(events.Ref{Resource: "nodes", Name: name}) == nil })
	}
	return &batch{
		policy: m.policy, memo: m, profiles: m.profiles, hosts: hosts, classes: map[string]*class{},
		view: v, picky: picky, topologies: map[string]*topology{}, parsed: map[*v1.Pod]*terms{},
	}
}

// host returns a host as it is in the view. It adds up only what its pods take up if
// these are others than when it last did, where the view can tell.
func (m *memo) host(v runner.View, e *projections.Entry) *known {
	var stamp *projections.Stamp
	if s, ok := v.Reader.(projections.Stamped); ok {
		stamp = s.Stamp(e.Ref.Name)
	}
	before := m.hosts[e.Ref.Name]
	if before == nil {
		before = &known{}
	}
	if before.entry == e && before.stamp == stamp && stamp != nil {
		return before
	}
	k := &known{stamp: stamp, on: make(map[string]*podFacts, len(before.on))}
	if k.nodeFacts = before.nodeFacts; k.entry != e {
		k.nodeFacts = factsOf(e)
	}
	for p := range v.OnNode(e.Ref.Name) {
		f := podFactsOf(p, before.on[p.UID])
		k.on[p.UID] = f
		if !f.over {
			k.take(f.request)
			k.picky = k.picky || f.picky
		}
	}
	m.hosts[e.Ref.Name] = k
	return k
}

// maxProfiles bounds how many classes are remembered.
const maxProfiles = 1000

// profile returns what was made for a class of pods.
func (b *batch) profile(class string, make func() *profile) *profile {
	b.memo.mu.Lock()
	defer b.memo.mu.Unlock()
	if p, ok := b.profiles[class]; ok {
		return p
	}
	if len(b.profiles) >= maxProfiles {
		clear(b.profiles)
	}
	p := make()
	b.profiles[class] = p
	return p
}

func factsOf(e *projections.Entry) nodeFacts {
	n := projections.As[v1.Node](e)
	f := nodeFacts{
		entry:       e,
		node:        n,
		hash:        hash(n.Name),
		allocatable: amountsOf(n.Status.Allocatable),
		maxPods:     n.Status.Allocatable.Pods().Value(),
		images:      map[string]int64{},
	}
	for _, image := range n.Status.Images {
		for _, name := range image.Names {
			f.images[name] = image.SizeBytes
		}
	}
	return f
}

// podFactsOf is what a pod takes up, given what another version of it did, if there
// is one.
func podFactsOf(e *projections.Entry, before *podFacts) *podFacts {
	if before != nil && before.entry == e {
		return before
	}
	p := projections.As[v1.Pod](e)
	f := &podFacts{entry: e, pod: p, over: isOver(p), picky: isPicky(p)}
	if before != nil && asksAlike(before.pod, p) {
		f.request = before.request
	} else {
		r := requestsOf(p)
		f.request = &r
	}
	return f
}

// imageName is the name by which nodes list an image that a pod asks for.
func imageName(name string) string {
	if strings.LastIndexByte(name, ':') <= strings.LastIndexByte(name, '/') {
		return name + ":latest"
	}
	return name
}

// hash is FNV-1a with a finish that spreads short strings over all bits.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return h
}
