package scheduler

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// explanation is the note of a decision: why this node, or why none. The members
// are in the order of their names, as encode wants them.
type explanation struct {
	// Best are the nodes with the highest scores, the chosen one first.
	Best []score `json:"best,omitempty"`
	// Feasible is how many of the nodes would take the pod.
	Feasible int `json:"feasible"`
	Nodes    int `json:"nodes"`
	// Refused counts nodes by reason; one node may have several.
	Refused map[string]int `json:"refused,omitempty"`
	// Trigger is the sequence of the change upon which a pod that had no node
	// was looked at again.
	Trigger uint64 `json:"trigger,omitempty"`
}

// score is how the total of a node came about; the parts are before weighting.
type score struct {
	Affinity int64  `json:"affinity"`
	Balanced int64  `json:"balancedAllocation"`
	Images   int64  `json:"images"`
	Least    *int64 `json:"leastAllocated,omitempty"`
	Most     *int64 `json:"mostAllocated,omitempty"`
	Node     string `json:"node"`
	Pods     int64  `json:"podAffinity,omitempty"`
	Spread   int64  `json:"podTopologySpread,omitempty"`
	Ratio    *int64 `json:"requestedToCapacityRatio,omitempty"`
	Taints   int64  `json:"taints"`
	Total    int64  `json:"total"`
}

// shown is how many nodes an explanation scores.
const shown = 3

func (c *class) explain(chosen int) []byte {
	best, least := append(make([]int, 0, shown+1), chosen), int64(none)
	for i, total := range c.ranking {
		if total <= least || i == chosen {
			continue
		}
		at := len(best)
		for at > 1 && c.ranking[best[at-1]] < total {
			at--
		}
		best = slices.Insert(best, at, i)
		if len(best) >= shown {
			best = best[:shown]
			least = c.ranking[best[shown-1]]
		}
	}
	e := c.explanation()
	for _, i := range best {
		l := &c.looks[i]
		s := score{
			Node: c.memo.hosts[i].node.Name, Total: c.ranking[i],
			Taints: l.taints, Affinity: l.affinity, Images: l.images, Balanced: l.balanced,
		}
		switch c.memo.policy.Fit {
		case MostAllocated:
			s.Most = &l.fit
		case RequestedToCapacityRatio:
			s.Ratio = &l.fit
		default:
			s.Least = &l.fit
		}
		if c.neighbours != nil {
			s.Pods, s.Spread = c.neighbours.views[i].pods, c.neighbours.views[i].spread
		}
		e.Best = append(e.Best, s)
	}
	return encode(e)
}

func (c *class) explanation() explanation {
	e := explanation{Nodes: len(c.looks)}
	e.Feasible, e.Refused = c.tallies()
	return e
}

// tallies counts the nodes that would take the pod, and the others by reason.
func (c *class) tallies() (feasible int, refused map[string]int) {
	feasible = c.feasible
	count := func(reason, n int) {
		if n > 0 {
			if refused == nil {
				refused = map[string]int{}
			}
			refused[c.text(reason)] += n
		}
	}
	for reason, n := range c.refused {
		count(reason, n)
	}
	if c.neighbours == nil {
		return feasible, refused
	}
	for i := range c.neighbours.views {
		if r := c.neighbours.views[i].reasons; r != 0 {
			feasible--
			count(bits.TrailingZeros64(uint64(r)), 1)
		}
	}
	return feasible, refused
}

// message says in kube-scheduler's words why there is no node.
func (c *class) message() string {
	var counts []string
	_, refused := c.tallies()
	for reason, n := range refused {
		counts = append(counts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(counts)
	return unavailable(len(c.looks), strings.Join(counts, ", "))
}

func unavailable(nodes int, why string) string {
	if nodes == 0 {
		return "no nodes available to schedule pods"
	}
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, why)
}
