package replay

import (
	"encoding/json"
	"slices"
	"strings"
)

// Report says how a replay came out.
type Report struct {
	// From and To are the events that were looked at, Events how many were
	// folded, and Given how many of them nobody decided: what people asked for,
	// facts from outside, and signatures.
	From, To    uint64
	Events      int
	Given       int
	Differences int
	agents      map[string]*Tally
}

// Tally is how the decisions of one agent compare.
type Tally struct {
	Agent string `json:"agent"`
	// Decisions is how often the agent was asked and had an answer that is in the
	// history, and Events how many events came of that.
	Decisions int `json:"decisions"`
	Events    int `json:"events"`
	Equal     int `json:"equal"`
	Different int `json:"different"`
	// Skipped counts those that cannot be compared, by reason.
	Skipped map[string]int `json:"notComparable,omitempty"`
}

func (t *Tally) skip(reason string) {
	if t.Skipped == nil {
		t.Skipped = map[string]int{}
	}
	t.Skipped[reason]++
}

// NotComparable is how many decisions could not be compared.
func (t *Tally) NotComparable() int {
	n := 0
	for _, k := range t.Skipped {
		n += k
	}
	return n
}

// Reasons are those of Skipped, in order.
func (t *Tally) Reasons() []string {
	var all []string
	for r := range t.Skipped {
		all = append(all, r)
	}
	slices.Sort(all)
	return all
}

func (r *Report) tally(agent string) *Tally {
	t := r.agents[agent]
	if t == nil {
		t = &Tally{Agent: agent}
		r.agents[agent] = t
	}
	return t
}

// Agents are the tallies in the order of the agents' names.
func (r *Report) Agents() []*Tally {
	var all []*Tally
	for _, t := range r.agents {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *Tally) int { return strings.Compare(a.Agent, b.Agent) })
	return all
}

// Equal is how many decisions of all agents are the same.
func (r *Report) Equal() int {
	n := 0
	for _, t := range r.agents {
		n += t.Equal
	}
	return n
}

// MarshalJSON implements json.Marshaler.
func (r Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"from": r.From, "to": r.To, "events": r.Events, "given": r.Given, "differences": r.Differences, "agents": r.Agents(),
	})
}
