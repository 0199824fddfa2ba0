package scheduler

import (
	"math"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// spreadRule is a topology spread constraint: how many pods like this one there
// are in each domain may not differ by more than so much, or had better not.
type spreadRule struct {
	tally
	selector   labels.Selector
	hard       bool
	maxSkew    int64
	minDomains int
	self       int64  // 1 if the pod is one of those counted
	eligible   []bool // the hosts whose pods count
	domains    []bool // the domains that an eligible host is in
	reachable  int    // how many domains that are
}

func (b *batch) spreadRules(p *v1.Pod) []spreadRule {
	all := b.constraints(p)
	if len(all) == 0 {
		return nil
	}
	rules := make([]spreadRule, len(all))
	for i := range all {
		c := &all[i]
		selector := selectorOf(c.LabelSelector)
		for _, key := range c.MatchLabelKeys {
			if value, ok := p.Labels[key]; ok {
				same, _ := labels.SelectorFromSet(labels.Set{key: value}).Requirements()
				selector = selector.Add(same...)
			}
		}
		r := spreadRule{
			tally: b.tally(c.TopologyKey), selector: selector, hard: c.WhenUnsatisfiable == v1.DoNotSchedule,
			maxSkew: int64(c.MaxSkew), minDomains: 1, eligible: make([]bool, len(b.hosts)),
		}
		if c.MinDomains != nil {
			r.minDomains = int(*c.MinDomains)
		}
		if selector.Matches(labels.Set(p.Labels)) {
			r.self = 1
		}
		rules[i] = r
	}
	required := nodeaffinity.GetRequiredNodeAffinity(p)
	for i := range rules {
		rules[i].findEligible(b, p, &all[i], required, rules)
	}
	return rules
}

// findEligible marks the hosts that count for a rule: those that the pod's node
// affinity and, if asked for, its tolerations let it go to, and that have the
// labels of all rules that are as hard.
func (r *spreadRule) findEligible(b *batch, p *v1.Pod, c *v1.TopologySpreadConstraint, required nodeaffinity.RequiredNodeAffinity, rules []spreadRule) {
	r.domains = make([]bool, r.topology.count)
	for h := range b.hosts {
		node := b.hosts[h].node
		ok := true
		for i := range rules {
			ok = ok && (rules[i].hard != r.hard || rules[i].of[h] >= 0)
		}
		if ok && (c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == v1.NodeInclusionPolicyHonor) {
			match, err := required.Match(node)
			ok = match && err == nil
		}
		if ok && c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == v1.NodeInclusionPolicyHonor {
			ok = !anyUntolerated(p, node)
		}
		if !ok {
			continue
		}
		r.eligible[h] = true
		if d := r.of[h]; !r.domains[d] {
			r.domains[d] = true
			r.reachable++
		}
	}
}

// meet counts a resident if it is one that the rule is about.
func (r *spreadRule) meet(pod *v1.Pod, q resident) {
	if r.eligible[q.host] && q.pod.Namespace == pod.Namespace && q.pod.DeletionTimestamp == nil && r.selector.Matches(labels.Set(q.pod.Labels)) {
		r.add(q.host, 1)
	}
}

// least is the smallest count of a domain, zero while there are too few domains.
func (r *spreadRule) least() int64 {
	if r.reachable < r.minDomains {
		return 0
	}
	least := int64(math.MaxInt64)
	for d, ok := range r.domains {
		if ok {
			least = min(least, r.counts[d])
		}
	}
	return least
}

// refusal is why a host would break a hard rule, given the rule's least count.
func (r *spreadRule) refusal(host int, least int64) reasons {
	count, ok := r.at(host)
	switch {
	case !ok:
		return 1 << unspreadable
	case count+r.self-least > r.maxSkew:
		return 1 << skewed
	}
	return 0
}

// scoreSpread scores the hosts that are left by the soft rules: the fewer like
// pods in a domain the better, and rules with many domains weigh more.
func (n *neighbours) scoreSpread(ranked []int64) {
	var soft []*spreadRule
	for i := range n.spread {
		if r := &n.spread[i]; !r.hard {
			soft = append(soft, r)
		}
	}
	if len(soft) == 0 {
		return
	}
	weights := make([]int64, len(soft))
	for i, r := range soft {
		weights[i] = topologyWeight(r.reached(ranked))
	}
	scores := make([]int64, len(ranked))
	least, most := int64(math.MaxInt64), int64(0)
	for h := range ranked {
		if scores[h] = softScore(soft, weights, h); ranked[h] != none && scores[h] >= 0 {
			least, most = min(least, scores[h]), max(most, scores[h])
		}
	}
	for h := range ranked {
		switch {
		case scores[h] < 0: // it lacks a label
			n.views[h].spread = 0
		case most == 0:
			n.views[h].spread = 100
		default:
			n.views[h].spread = 100 * (most + least - scores[h]) / most
		}
	}
}

// softScore is how many like pods are around a host, weighted; none if it lacks
// a label.
func softScore(soft []*spreadRule, weights []int64, host int) int64 {
	var sum int64
	for i, r := range soft {
		count, ok := r.at(host)
		if !ok {
			return none
		}
		sum += count*weights[i] + 1000*(r.maxSkew-1)
	}
	return (sum + 500) / 1000
}

// reached counts the domains of the hosts that are left.
func (r *spreadRule) reached(ranked []int64) int {
	seen := make([]bool, r.topology.count)
	n := 0
	for h, total := range ranked {
		if d := r.of[h]; total != none && d >= 0 && !seen[d] {
			seen[d] = true
			n++
		}
	}
	return n
}

// topologyWeight is log(domains+2) in thousandths. Rounded so, it is the same on
// all machines, whose logarithms differ in the last bit at most.
func topologyWeight(domains int) int64 {
	return int64(math.Round(1000 * math.Log(float64(domains+2))))
}
