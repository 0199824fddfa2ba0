package scheduler

import "math"

// rank brings up to date how the hosts appear for their neighbours, and returns
// the totals that count: those of the class with the scores for neighbours, and
// none where a rule about neighbours refuses.
func (n *neighbours) rank(c *class) []int64 {
	n.meet()
	leasts := make([]int64, len(n.spread))
	for i := range n.spread {
		leasts[i] = n.spread[i].least()
	}
	for h, total := range c.totals {
		v := &n.views[h]
		*v = view{}
		if n.ranking[h] = total; total == none {
			continue
		}
		if v.reasons = n.refusal(h, leasts); v.reasons != 0 {
			n.ranking[h] = none
		}
	}
	n.scoreSpread(n.ranking)
	n.scorePods(n.ranking)
	for h := range n.ranking {
		if n.ranking[h] != none {
			n.ranking[h] += c.memo.policy.spread*n.views[h].spread + c.memo.policy.pods*n.views[h].pods
		}
	}
	return n.ranking
}

// refusal is the first reason not to put the pod among a host's neighbours.
func (n *neighbours) refusal(host int, leasts []int64) reasons {
	for i := range n.spread {
		if r := &n.spread[i]; r.hard {
			if reason := r.refusal(host, leasts[i]); reason != 0 {
				return reason
			}
		}
	}
	for _, t := range n.must {
		if count, ok := t.at(host); !ok || (count == 0 && !n.isFirst()) {
			return 1 << lonely
		}
	}
	for _, t := range n.mustNot {
		if count, _ := t.at(host); count > 0 {
			return 1 << crowded
		}
	}
	for _, t := range n.repel {
		if count, _ := t.at(host); count > 0 {
			return 1 << repelled
		}
	}
	return 0
}

// isFirst says whether the pod is the first of a group whose pods want to be
// together, for whom nobody can be there yet.
func (n *neighbours) isFirst() bool {
	return n.matches == 0 && n.batch.matchesAll(n.own.must, n.pod)
}

// scorePods scores the hosts that are left by what the pods around them think.
func (n *neighbours) scorePods(ranked []int64) {
	if len(n.pull) == 0 {
		return
	}
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for h := range ranked {
		var sum int64
		for _, t := range n.pull {
			count, _ := t.at(h)
			sum += count
		}
		n.views[h].pods = sum
		if ranked[h] != none {
			least, most = min(least, sum), max(most, sum)
		}
	}
	for h := range ranked {
		if v := &n.views[h]; most > least && ranked[h] != none {
			v.pods = 100 * (v.pods - least) / (most - least)
		} else {
			v.pods = 0
		}
	}
}
