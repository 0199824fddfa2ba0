package replay

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// maxLine is how much of a line is shown unless all is asked for.
const maxLine = 160

// Text is the difference for people, all of each line if wide.
func (d Difference) Text(wide bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s about %s, with the view at %d and the time %s:\n", d.Agent, d.Item, d.Basis, d.Now.UTC().Format("2006-01-02T15:04:05.000Z"))
	for _, p := range d.Parts {
		fmt.Fprintf(&b, "  %s\n", p.Event)
		for _, l := range p.Recorded {
			fmt.Fprintf(&b, "    - %s\n", cut(l, wide))
		}
		for _, l := range p.Now {
			fmt.Fprintf(&b, "    + %s\n", cut(l, wide))
		}
	}
	if d.Remark != "" {
		fmt.Fprintf(&b, "  (%s)\n", d.Remark)
	}
	return b.String()
}

func cut(line string, wide bool) string {
	line = strings.ReplaceAll(line, "\n", " ")
	if r := []rune(line); !wide && len(r) > maxLine {
		return string(r[:maxLine]) + "…"
	}
	return line
}

// Text is the report for people.
func (r Report) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AGENT\tDECISIONS\tEQUAL\tDIFFERENT\tNOT COMPARABLE\tEVENTS")
	for _, t := range r.Agents() {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\n", t.Agent, t.Decisions, t.Equal, t.Different, t.NotComparable(), t.Events)
	}
	_ = w.Flush() // a Builder takes all
	for _, t := range r.Agents() {
		for _, reason := range t.Reasons() {
			fmt.Fprintf(&b, "not comparable: %d of %s: %s\n", t.Skipped[reason], t.Agent, reason)
		}
	}
	fmt.Fprintf(&b, "%d events folded; %d of those looked at were decided by nobody: requests of people, and facts from outside\n", r.Events, r.Given)
	return b.String()
}
