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
	nodes map[string]nodeFacts
	pods  map[string]*podFacts // by uid
	// profiles are by class and for these versions of the nodes; for others there
	// is another map.
	profiles map[string]*profile
	order    []*projections.Entry
}

// podFacts is what a version of a bound pod takes up.
type podFacts struct {
	entry   *projections.Entry
	pod     *v1.Pod
	over    bool
	picky   bool
	request *request
	seen    uint64 // the view that it was last seen in
}

func newMemo(p *policy) *memo {
	return &memo{policy: p, nodes: map[string]nodeFacts{}, pods: map[string]*podFacts{}, profiles: map[string]*profile{}}
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
		h := host{nodeFacts: m.nodeFacts(e)}
		for p := range v.OnNode(e.Ref.Name) {
			if f := m.podFacts(p, v.Sequence()); !f.over {
				h.take(f.request)
				picky = picky || f.picky
			}
		}
		hosts = append(hosts, h)
	}
	if !slices.Equal(order, m.order) {
		m.order = order
		m.profiles = map[string]*profile{}
		maps.DeleteFunc(m.nodes, func(name string, _ nodeFacts) bool { return v.Get(events.Ref{Resource: "nodes", Name: name}) == nil })
	}
	m.forget(v.Sequence())
	return &batch{
		policy: m.policy, memo: m, profiles: m.profiles, hosts: hosts, classes: map[string]*class{},
		view: v, picky: picky, topologies: map[string]*topology{}, parsed: map[*v1.Pod]*terms{},
	}
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

func (m *memo) nodeFacts(e *projections.Entry) nodeFacts {
	if f, ok := m.nodes[e.Ref.Name]; ok && f.entry == e {
		return f
	}
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
	m.nodes[e.Ref.Name] = f
	return f
}

func (m *memo) podFacts(e *projections.Entry, view uint64) *podFacts {
	f := m.pods[e.UID]
	if f == nil || f.entry != e {
		p := projections.As[v1.Pod](e)
		next := &podFacts{entry: e, pod: p, over: isOver(p), picky: isPicky(p)}
		if f != nil && asksAlike(f.pod, p) {
			next.request = f.request
		} else {
			r := requestsOf(p)
			next.request = &r
		}
		f = next
		m.pods[e.UID] = f
	}
	f.seen = view
	return f
}

// forget drops the pods that are gone, once they are as many as those that are
// there.
func (m *memo) forget(view uint64) {
	gone := 0
	for _, f := range m.pods {
		if f.seen != view {
			gone++
		}
	}
	if gone <= len(m.pods)/2 {
		return
	}
	for uid, f := range m.pods {
		if f.seen != view {
			delete(m.pods, uid)
		}
	}
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
