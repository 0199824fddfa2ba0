package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Print writes a result for people.
func (r *Result) Print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s, %s (load of the machine %.1f, at the end %.1f)\n", r.Side, r.Scenario.Title(), r.MachineLoad[0], r.MachineLoad[1])
	if r.Missing != "" {
		fmt.Fprintf(w, "NOT REACHED: %s\n", r.Missing)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "step\tcount\tof\ta second\tp50 ms\tp99 ms\tsince\t")
	for _, s := range r.Steps {
		fmt.Fprintf(table, "%s\t%d\t%d\t%.0f\t%s\t%s\t%s\t\n", s.Name, s.Count, s.Want, s.PerSecond, short(s.Latency.P50), short(s.Latency.P99), s.Since)
	}
	for _, c := range r.Calls {
		since := "call"
		if c.Count < 100 {
			since = "call: the longest"
		}
		fmt.Fprintf(table, "%s\t%d\t\t\t%s\t%s\t%s\t\n", c.Verb, c.Count, short(c.Latency.P50), short(c.Latency.P99), since)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if r.FailedCalls > 0 {
		fmt.Fprintf(w, "%d calls failed, one of them: %s\n", r.FailedCalls, r.Failure)
	}
	if r.Cuts > 0 {
		fmt.Fprintf(w, "watches were cut off %d times, and began again where they had been\n", r.Cuts)
	}
	if r.Relists > 0 {
		fmt.Fprintf(w, "the observer fell behind and began anew %d times, so that times are blurred\n", r.Relists)
	}
	if r.Measured.Control || r.Measured.Nodes {
		fmt.Fprintf(w, "CPU a pod up:   %s\n", r.Measured.cost(r.Up))
		if r.Down.Load > 0 { // Not all scenarios delete their pods.
			fmt.Fprintf(w, "CPU a pod down: %s\n", r.Measured.cost(r.Down))
			fmt.Fprintf(w, "CPU a pod after that: %s\n", r.Measured.cost(r.After))
		}
	}
	if r.Disagreed {
		fmt.Fprintf(w, "all pods were ready, and half a minute later some Deployments did not say so\n")
	}
	if r.Restless {
		fmt.Fprintf(w, "the control plane did not come to rest\n")
	}
	var resident, disk string
	if r.Measured.Control {
		resident = fmt.Sprintf("resident %s MB at most, of which %s MB no files', %s MB at the end; ",
			short(float64(r.PeakBytes)/1e6), short(float64(r.PeakAnonymousBytes)/1e6), short(float64(r.EndBytes)/1e6))
	}
	if r.Measured.Data {
		disk = fmt.Sprintf(" and %.1f kB on disk", r.StoredBytes/1e3)
	}
	_, err := fmt.Fprintf(w, "%sa pod made %.1f events%s; the fullest node has %s\n", resident, r.Events, disk, Count(r.Fullest, "pod"))
	return err
}

// cost is what of a cost was measured, in words.
func (m Measured) cost(c Cost) string {
	var parts []string
	if m.Control {
		var each []string
		for _, name := range slices.Sorted(maps.Keys(c.Each)) {
			each = append(each, fmt.Sprintf("%s %.2f", name, c.Each[name]))
		}
		parts = append(parts, fmt.Sprintf("%.2f ms of control plane (%s)", c.Control, strings.Join(each, ", ")))
	}
	if m.Nodes {
		parts = append(parts, fmt.Sprintf("%.2f ms of nodes", c.Nodes))
	}
	return strings.Join(append(parts, fmt.Sprintf("%.2f ms of the load itself", c.Load)), ", ")
}

// short prints three digits.
func short(n float64) string {
	switch {
	case n >= 100:
		return fmt.Sprintf("%.0f", n)
	case n >= 10:
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.2f", n)
}

// measure is something that two sides can be compared by.
type measure struct {
	name string
	of   func(*Result) float64
}

func measures() []measure {
	per := func(step string) measure {
		return measure{step + " a second", func(r *Result) float64 { return r.Step(step).PerSecond }}
	}
	p50 := func(step string) measure {
		return measure{step + ", p50 ms", func(r *Result) float64 { return r.Step(step).Latency.P50 }}
	}
	p99 := func(step string) measure {
		return measure{step + ", p99 ms", func(r *Result) float64 { return r.Step(step).Latency.P99 }}
	}
	out := []measure{
		{"CPU ms a pod, up", func(r *Result) float64 { return r.Up.Control }},
		{"CPU ms a pod, down", func(r *Result) float64 { return r.Down.Control }},
		{"CPU ms a pod, after that", func(r *Result) float64 { return r.After.Control }},
		{"CPU ms of nodes a pod, up", func(r *Result) float64 { return r.Up.Nodes }},
		per("created"), per("bound"), per("running"), per("gone"), per("delivered"),
		p50("seen lost"), p50("created"), p50("bound"), p50("running"), p50("in all"), p50("elsewhere"), p50("gone"), p50("delivered"),
		p99("seen lost"), p99("created"), p99("bound"), p99("running"), p99("in all"), p99("elsewhere"), p99("gone"), p99("delivered"),
		{"resident MB, at most", func(r *Result) float64 { return float64(r.PeakBytes) / 1e6 }},
		{"of which no files', at most", func(r *Result) float64 { return float64(r.PeakAnonymousBytes) / 1e6 }},
		{"resident MB, at the end", func(r *Result) float64 { return float64(r.EndBytes) / 1e6 }},
		{"events a pod", func(r *Result) float64 { return r.Events }},
		{"pods on the fullest node", func(r *Result) float64 { return float64(r.Fullest) }},
		{"kB on disk a pod", func(r *Result) float64 { return r.StoredBytes / 1e3 }},
	}
	for _, verb := range []string{"get", "create", "patch"} {
		out = append(out, measure{verb + " call, p99 ms", func(r *Result) float64 {
			for _, c := range r.Calls {
				if c.Verb == verb {
					return c.Latency.P99
				}
			}
			return 0
		}})
	}
	return append(out,
		measure{"calls", func(r *Result) (n float64) {
			for _, c := range r.Calls {
				n += float64(c.Count)
			}
			return n
		}},
		measure{"calls that failed", func(r *Result) float64 { return float64(r.FailedCalls) }},
		measure{"watches cut off", func(r *Result) float64 { return float64(r.Cuts) }},
		measure{"times that the observer began anew", func(r *Result) float64 { return float64(r.Relists) }})
}

// Compare writes, for each scenario, what two sides took, by the medians of their
// results, and how the first stands to the second.
func Compare(w io.Writer, results []*Result, first, second string) error {
	for _, s := range scenarios(results) {
		a, b := of(results, s, first), of(results, s, second)
		fmt.Fprintf(w, "\n%s (medians of %d and %d)\n", s.Title(), len(a), len(b))
		for _, r := range slices.Concat(a, b) {
			if r.Missing != "" {
				fmt.Fprintf(w, "%s DID NOT REACH ALL: %s\n", r.Side, r.Missing)
			}
		}
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(table, "\t%s\t%s\tratio\t\n", first, second)
		for _, m := range measures() {
			x, y := median(a, m.of), median(b, m.of)
			if x == 0 && y == 0 {
				continue
			}
			ratio := "-"
			if x > 0 && y > 0 {
				ratio = fmt.Sprintf("%.3g", x/y)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t\n", m.name, between(a, m.of, x), between(b, m.of, y), ratio)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// between is a median and, if there are several results, between what they are.
func between(results []*Result, of func(*Result) float64, median float64) string {
	if len(results) < 2 {
		return short(median)
	}
	least, most := of(results[0]), of(results[0])
	for _, r := range results[1:] {
		least, most = min(least, of(r)), max(most, of(r))
	}
	return fmt.Sprintf("%s (%s to %s)", short(median), short(least), short(most))
}

// scenarios are those of the results, each once, in their order.
func scenarios(results []*Result) (out []Scenario) {
	for _, r := range results {
		if !slices.Contains(out, r.Scenario) {
			out = append(out, r.Scenario)
		}
	}
	return out
}

func of(results []*Result, s Scenario, side string) (out []*Result) {
	for _, r := range results {
		if r.Scenario == s && r.Side == side {
			out = append(out, r)
		}
	}
	return out
}

func median(results []*Result, of func(*Result) float64) float64 {
	var all []float64
	for _, r := range results {
		all = append(all, of(r))
	}
	slices.Sort(all)
	switch n := len(all); {
	case n == 0:
		return 0
	case n%2 == 1:
		return all[n/2]
	default:
		return (all[n/2-1] + all[n/2]) / 2
	}
}
