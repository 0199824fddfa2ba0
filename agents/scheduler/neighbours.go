package scheduler

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// neighbours is what a class of pods has to do with the pods that are bound: the
// rules of topology spread and of affinity between pods, and how many of them
// there are in each domain of the topology. Only classes with such rules have
// one, and while any pod has an affinity to others, all: it may be about them.
type neighbours struct {
	batch   *batch
	pod     *v1.Pod // one of the class, for its labels and namespace
	own     *terms
	spread  []spreadRule
	must    []tally // by own.must: the pods that match all of them
	mustNot []tally // by own.mustNot
	matches int     // how many pods match all of own.must
	repel   map[string]tally
	pull    map[string]tally
	met     int // how many of batch.bound are counted
	ranking []int64
	views   []view
}

// view is how a host appears for its neighbours.
type view struct {
	reasons reasons
	spread  int64 // scores before weighting, each 0 to 100
	pods    int64
}

// resident is a pod that is bound to a host.
type resident struct {
	pod  *v1.Pod
	host int
}

// topology divides the hosts by the value of a label; -1 is without it.
type topology struct {
	of    []int
	count int
}

// tally counts something by domain of a topology.
type tally struct {
	*topology
	counts []int64
}

func (t tally) add(host int, n int64) {
	if d := t.of[host]; d >= 0 {
		t.counts[d] += n
	}
}

// at is the count in a host's domain, and false if it is in none.
func (t tally) at(host int) (int64, bool) {
	if d := t.of[host]; d >= 0 {
		return t.counts[d], true
	}
	return 0, false
}

func (b *batch) tally(key string) tally {
	t, ok := b.topologies[key]
	if !ok {
		t = &topology{of: make([]int, len(b.hosts))}
		domains := map[string]int{}
		for i := range b.hosts {
			value, ok := b.hosts[i].node.Labels[key]
			if !ok {
				t.of[i] = -1
				continue
			}
			if _, seen := domains[value]; !seen {
				domains[value] = len(domains)
			}
			t.of[i] = domains[value]
		}
		t.count = len(domains)
		b.topologies[key] = t
	}
	return tally{t, make([]int64, t.count)}
}

// terms are a pod's rules about others.
type terms struct{ must, mustNot, prefer []term }

// term is one rule: pods that it matches are wanted in the same domain of the
// topology, or not.
type term struct {
	key        string
	selector   labels.Selector
	namespaces []string
	within     labels.Selector // namespaces by their labels, nil for none
	weight     int64           // negative for pods that are not wanted
}

func (b *batch) matches(t *term, p *v1.Pod) bool {
	if !slices.Contains(t.namespaces, p.Namespace) {
		if t.within == nil {
			return false
		}
		var of labels.Set
		if ns := b.view.Get(events.Ref{Resource: "namespaces", Name: p.Namespace}); ns != nil {
			of = ns.Meta().Labels
		}
		if !t.within.Matches(of) {
			return false
		}
	}
	return t.selector.Matches(labels.Set(p.Labels))
}

// matchesAll says whether a pod is what all of the terms mean; none mean nothing.
func (b *batch) matchesAll(all []term, p *v1.Pod) bool {
	for i := range all {
		if !b.matches(&all[i], p) {
			return false
		}
	}
	return len(all) > 0
}

// isPicky says whether a pod has rules about others.
func isPicky(p *v1.Pod) bool {
	a := p.Spec.Affinity
	return a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil)
}

// termsOf parses a pod's rules, once in a batch.
func (b *batch) termsOf(p *v1.Pod) *terms {
	if !isPicky(p) {
		return &terms{}
	}
	if t, ok := b.parsed[p]; ok {
		return t
	}
	t := &terms{}
	if a := p.Spec.Affinity.PodAffinity; a != nil {
		t.must = parseTerms(p, a.RequiredDuringSchedulingIgnoredDuringExecution)
		t.prefer = parseWeighted(p, a.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if a := p.Spec.Affinity.PodAntiAffinity; a != nil {
		t.mustNot = parseTerms(p, a.RequiredDuringSchedulingIgnoredDuringExecution)
		t.prefer = append(t.prefer, parseWeighted(p, a.PreferredDuringSchedulingIgnoredDuringExecution, -1)...)
	}
	b.parsed[p] = t
	return t
}

func parseTerms(p *v1.Pod, all []v1.PodAffinityTerm) []term {
	out := make([]term, len(all))
	for i := range all {
		out[i] = parseTerm(p, &all[i])
	}
	return out
}

func parseWeighted(p *v1.Pod, all []v1.WeightedPodAffinityTerm, sign int64) []term {
	out := make([]term, len(all))
	for i := range all {
		out[i] = parseTerm(p, &all[i].PodAffinityTerm)
		out[i].weight = sign * int64(all[i].Weight)
	}
	return out
}

// parseTerm reads a term. The gate has merged its matchLabelKeys into the
// selector, and refused selectors that cannot be parsed.
func parseTerm(p *v1.Pod, t *v1.PodAffinityTerm) term {
	out := term{key: t.TopologyKey, selector: selectorOf(t.LabelSelector), namespaces: t.Namespaces}
	if t.NamespaceSelector != nil {
		out.within = selectorOf(t.NamespaceSelector)
	} else if len(t.Namespaces) == 0 {
		out.namespaces = []string{p.Namespace}
	}
	return out
}

func selectorOf(s *metav1.LabelSelector) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

// neighbours returns what a pod has to do with others, nil for nothing.
func (b *batch) neighbours(p *v1.Pod) *neighbours {
	if !b.isRelated(p) {
		return nil
	}
	if b.residents == nil {
		b.residents = b.findResidents()
	}
	n := &neighbours{
		batch: b, pod: p, own: b.termsOf(p), repel: map[string]tally{}, pull: map[string]tally{},
		views: make([]view, len(b.hosts)), ranking: make([]int64, len(b.hosts)),
	}
	n.spread = b.spreadRules(p)
	for i := range n.own.must {
		n.must = append(n.must, b.tally(n.own.must[i].key))
	}
	for i := range n.own.mustNot {
		n.mustNot = append(n.mustNot, b.tally(n.own.mustNot[i].key))
	}
	for _, r := range b.residents {
		n.count(r)
	}
	return n
}

// isRelated says whether other pods matter for a pod.
func (b *batch) isRelated(p *v1.Pod) bool {
	return b.picky || len(b.constraints(p)) > 0
}

// findResidents lists the pods that were bound before.
func (b *batch) findResidents() []resident {
	all := []resident{}
	for i := range b.hosts {
		for e := range b.view.OnNode(b.hosts[i].node.Name) {
			if p := projections.As[v1.Pod](e); !isOver(p) {
				all = append(all, resident{p, i})
			}
		}
	}
	return all
}

// meet counts the pods that were bound since it was last called.
func (n *neighbours) meet() {
	for ; n.met < len(n.batch.bound); n.met++ {
		n.count(n.batch.bound[n.met])
	}
}

func (n *neighbours) count(r resident) {
	for i := range n.spread {
		n.spread[i].meet(n.pod, r)
	}
	if n.batch.matchesAll(n.own.must, r.pod) {
		n.matches++
		for _, t := range n.must {
			t.add(r.host, 1)
		}
	}
	for i := range n.own.mustNot {
		if n.batch.matches(&n.own.mustNot[i], r.pod) {
			n.mustNot[i].add(r.host, 1)
		}
	}
	for i := range n.own.prefer {
		if t := &n.own.prefer[i]; n.batch.matches(t, r.pod) {
			n.in(n.pull, t.key).add(r.host, t.weight)
		}
	}
	if isPicky(r.pod) {
		n.heed(r)
	}
}

// heed counts what a resident thinks of pods of the class.
func (n *neighbours) heed(r resident) {
	theirs := n.batch.termsOf(r.pod)
	for i := range theirs.mustNot {
		if t := &theirs.mustNot[i]; n.batch.matches(t, n.pod) {
			n.in(n.repel, t.key).add(r.host, 1)
		}
	}
	for i := range theirs.must {
		if t := &theirs.must[i]; n.batch.matches(t, n.pod) {
			n.in(n.pull, t.key).add(r.host, n.batch.policy.hard)
		}
	}
	if n.batch.policy.DeafToPods && len(n.own.prefer) == 0 {
		return
	}
	for i := range theirs.prefer {
		if t := &theirs.prefer[i]; n.batch.matches(t, n.pod) {
			n.in(n.pull, t.key).add(r.host, t.weight)
		}
	}
}

func (n *neighbours) in(tallies map[string]tally, key string) tally {
	t, ok := tallies[key]
	if !ok {
		t = n.batch.tally(key)
		tallies[key] = t
	}
	return t
}
