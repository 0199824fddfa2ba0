package scheduler

import (
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// memo is what was computed from a view. It changes nothing but the time that deciding
// takes: for a later view, only what has changed in between is computed anew, where the
// views can tell.
type memo struct {
	policy *policy

	mu    sync.Mutex         // held while something is decided
	trace *projections.Trace // of the view that the rest is of; nil: of none
	hosts []host             // in the order of their nodes' names
	// hashes are those of the hosts' names, side by side for going through them.
	hashes []uint64
	index  map[string]int // of hosts, by their nodes' names
	pods   map[podName]*podFacts
	latest *podFacts // of the pods, the one that was looked at last
	picky  int       // how many of the pods have rules about others and are not over
	// recounted lists the hosts for which the pods were counted anew, in order: a class
	// looks again at those only.
	recounted []int
	profiles  map[string]*profile // by class
}

// podName is the name of a pod that is bound to one of the hosts.
type podName struct{ namespace, name string }

func nameOf(pod events.Ref) podName { return podName{pod.Namespace, pod.Name} }

func newMemo(p *policy) *memo {
	return &memo{policy: p, profiles: map[string]*profile{}}
}

// batch returns a pass over the hosts with what the pods that are bound to them take up.
// The memo is the batch's until its end.
func (m *memo) batch(v runner.View, waiting []waitingPod) *batch {
	var trace *projections.Trace
	if t, ok := v.Reader.(projections.Traced); ok {
		trace = t.Trace()
	}
	before := m.trace
	m.trace = nil // If a bug ends this early, the next begins anew.
	if changed, ok := before.To(trace, len(m.pods)+len(m.hosts)); ok {
		m.follow(v, changed)
	} else {
		m.begin(v)
	}
	if len(m.recounted) > 4*len(m.hosts)+1000 {
		m.forgetClasses()
	}
	picky := m.picky > 0 || slices.ContainsFunc(waiting, func(p waitingPod) bool { return isPicky(p.pod) })
	return &batch{
		memo: m, trace: trace, classes: map[string]*class{}, view: v, picky: picky,
		topologies: map[string]*topology{}, parsed: map[*v1.Pod]*terms{},
	}
}

// end gives the memo back as the view has it: what was bound in the batch is not there yet.
func (b *batch) end() {
	m := b.memo
	for _, t := range b.taken {
		m.hosts[t.host].release(t.request)
		m.recounted = append(m.recounted, t.host)
	}
	m.trace = b.trace
}

// begin looks at all nodes and pods there are.
func (m *memo) begin(v runner.View) {
	before := m.pods
	m.hosts, m.index, m.pods, m.picky = nil, nil, make(map[podName]*podFacts, len(before)), 0
	m.arrange(v, before)
}

// follow looks at the pods and nodes that may have changed. Pods first: with the hosts
// of before, they are then as they are.
func (m *memo) follow(v runner.View, changed []events.Ref) {
	others := false
	for _, ref := range changed {
		if ref.Resource == "pods" {
			m.followPod(ref, v.Get(ref))
		}
	}
	for _, ref := range changed {
		if ref.Resource == "nodes" {
			others = m.followNode(ref.Name, v.Get(ref)) || others
		}
	}
	if others {
		m.arrange(v, nil)
	}
}

// followPod takes note of a version of a pod, nil if it is gone.
func (m *memo) followPod(ref events.Ref, e *projections.Entry) {
	name := nameOf(ref)
	before := m.pods[name]
	bound := e != nil
	if bound {
		_, bound = m.index[e.Node()]
	}
	if !bound {
		if before != nil {
			m.count(before, -1)
			delete(m.pods, name)
		}
		return
	}
	f := m.facts(e, before)
	m.pods[name] = f
	switch {
	case before == nil:
		m.count(f, 1)
	case !f.isAlike(before):
		m.count(before, -1)
		m.count(f, 1)
	}
}

// facts are what a version of a pod takes up, given that of before, if there is one.
func (m *memo) facts(e *projections.Entry, before *podFacts) *podFacts {
	m.latest = podFactsOf(e, before, m.latest)
	return m.latest
}

// count adds a pod to its host, or takes it off.
func (m *memo) count(f *podFacts, n int) {
	if f.over {
		return
	}
	h := m.index[f.entry.Node()]
	if n > 0 {
		m.hosts[h].take(f.request)
	} else {
		m.hosts[h].release(f.request)
	}
	m.recounted = append(m.recounted, h)
	if f.picky {
		m.picky += n
	}
}

// followNode takes note of a version of a node, nil if it is gone. It says whether there
// are other nodes than before.
func (m *memo) followNode(name string, e *projections.Entry) (others bool) {
	i, known := m.index[name]
	if !known || e == nil {
		return known != (e != nil)
	}
	h := &m.hosts[i]
	if h.entry == e {
		return false
	}
	before := h.nodeFacts
	h.nodeFacts = factsOf(e)
	if m.recounted = append(m.recounted, i); !looksAlike(&before, &h.nodeFacts) {
		m.forgetProfiles()
	}
	return false
}

// arrange puts the hosts that there are in order. Pods on those that are new are counted,
// given what versions of them took up before; those on hosts that are gone are forgotten.
func (m *memo) arrange(v runner.View, pods map[podName]*podFacts) {
	hosts, index := m.hosts, m.index
	m.hosts, m.hashes, m.index = nil, nil, make(map[string]int, len(index))
	var fresh []string
	for e := range v.List("", "nodes", "") {
		name := e.Ref.Name
		var h host
		if i, known := index[name]; known {
			h = hosts[i]
			delete(index, name)
		} else {
			h.nodeFacts = factsOf(e)
			fresh = append(fresh, name)
		}
		m.index[name] = len(m.hosts)
		m.hosts = append(m.hosts, h)
		m.hashes = append(m.hashes, hash(name))
	}
	for name := range index {
		for e := range v.OnNode(name) {
			if f := m.pods[nameOf(e.Ref)]; f.picky && !f.over {
				m.picky--
			}
			delete(m.pods, nameOf(e.Ref))
		}
	}
	m.forgetProfiles()
	for _, name := range fresh {
		for e := range v.OnNode(name) {
			f := m.facts(e, pods[nameOf(e.Ref)])
			m.pods[nameOf(e.Ref)] = f
			m.count(f, 1)
		}
	}
}

// maxLooks bounds what is remembered of classes: how many times one looks at a host. A few
// are remembered in any case.
const (
	maxLooks    = 1 << 20
	minProfiles = 16
)

// profile returns what was made for a class of pods.
func (m *memo) profile(class string, make func() *profile) *profile {
	if p, ok := m.profiles[class]; ok {
		return p
	}
	if n := len(m.profiles); n >= minProfiles && n*len(m.hosts) >= maxLooks {
		clear(m.profiles)
	}
	p := make()
	m.profiles[class] = p
	return p
}

// forgetProfiles is called when nodes have changed.
func (m *memo) forgetProfiles() {
	m.recounted = m.recounted[:0]
	clear(m.profiles)
}

// forgetClasses is called when to look at all hosts is less than to look again.
func (m *memo) forgetClasses() {
	m.recounted = m.recounted[:0]
	for _, p := range m.profiles {
		p.class = nil
	}
}
