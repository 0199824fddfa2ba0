package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Readable says in a few lines what the note of a decision has: how many nodes
// there were and would take the pod, the scores of the best, and why the others
// would not. It says false if the note is none of ours.
func Readable(note []byte) ([]string, bool) {
	var e explanation
	if json.Unmarshal(note, &e) != nil || (e.Nodes == 0 && e.Feasible == 0 && len(e.Best) == 0) {
		return nil, false
	}
	var lines []string
	if len(e.Best) > 0 {
		lines = append(lines, fmt.Sprintf("%s was the best of %s that would take it, among %d", e.Best[0].Node, nodes(e.Feasible), e.Nodes))
		for i := range e.Best {
			lines = append(lines, "  "+e.Best[i].text())
		}
	} else {
		lines = append(lines, fmt.Sprintf("none of %s would take it", nodes(e.Nodes)))
	}
	if len(e.Refused) > 0 {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(e.Refused)) {
			reasons = append(reasons, fmt.Sprintf("%d %s", e.Refused[reason], reason))
		}
		lines = append(lines, "refused by: "+strings.Join(reasons, ", "))
	}
	if e.Trigger != 0 {
		lines = append(lines, fmt.Sprintf("looked at again upon event %d", e.Trigger))
	}
	return lines, true
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// text is the total and the parts of which there is anything to say.
func (s *score) text() string {
	var parts []string
	for _, part := range []struct {
		name  string
		value int64
	}{
		{"least allocated", orZero(s.Least)}, {"most allocated", orZero(s.Most)}, {"requested to capacity", orZero(s.Ratio)}, {"balanced", s.Balanced}, {"images", s.Images}, {"taints", s.Taints},
		{"node affinity", s.Affinity}, {"pod affinity", s.Pods}, {"spread", s.Spread},
	} {
		if part.value != 0 {
			parts = append(parts, fmt.Sprintf("%s %d", part.name, part.value))
		}
	}
	return strings.TrimSuffix(fmt.Sprintf("%s %d: %s", s.Node, s.Total, strings.Join(parts, ", ")), ": ")
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
