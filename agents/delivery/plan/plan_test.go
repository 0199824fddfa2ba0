package plan_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/agents/delivery/plan"
	"github.com/reprise-run/reprise/events"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestPlan runs the transcripts. A step is a line: "take 1 a" reads event 1 of the
// object a; "1 accepted", "1 refused REASON", "1 failed [after=10s] REASON" and "1
// unreachable REASON" say what became of an attempt, "1 buried" of a dead letter.
// Then comes what the plan wants done.
func TestPlan(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var p *plan.Plan
		opts := plan.Defaults()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			now := epoch
			for _, arg := range d.CmdArgs {
				v := arg.Vals[0]
				switch arg.Key {
				case "at":
					after, err := time.ParseDuration(v)
					if err != nil {
						t.Fatal(err)
					}
					now = epoch.Add(after)
				case "window":
					opts.Window, _ = strconv.Atoi(v)
				case "parallel":
					opts.Parallel, _ = strconv.Atoi(v)
				}
			}
			if p == nil || d.Cmd == "begin" {
				p = plan.New(opts, events.DeliveryPosition{})
			}
			for line := range strings.Lines(d.Input) {
				step(t, p, now, strings.Fields(line))
			}
			return told(p, now)
		})
	})
}

func step(t *testing.T, p *plan.Plan, now time.Time, words []string) {
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if words[0] == "take" {
		p.Take(number(words[1]), events.Ref{Name: words[2]})
		return
	}
	sequence := number(words[0])
	var o plan.Outcome
	rest := words[2:]
	if len(rest) > 0 {
		if after, ok := strings.CutPrefix(rest[0], "after="); ok {
			o.After, _ = time.ParseDuration(after)
			rest = rest[1:]
		}
	}
	o.Reason = strings.Join(rest, " ")
	switch words[1] {
	case "buried":
		p.Buried(sequence)
		return
	case "unburied":
		p.NotBuried(sequence)
		return
	case "accepted":
	case "refused":
		o.Verdict = plan.Refused
	case "failed":
		o.Verdict = plan.Failed
	case "unreachable":
		o.Verdict = plan.Unreachable
	default:
		t.Fatalf("%q is no outcome", words[1])
	}
	p.Answered(now, sequence, o)
}

func told(p *plan.Plan, now time.Time) string {
	var b strings.Builder
	do, wake := p.Next(now)
	for _, a := range do {
		if a.Bury {
			fmt.Fprintf(&b, "bury %d after %d attempts since %s: %s\n", a.Sequence, a.Attempt, a.Since.Sub(epoch), a.Reason)
			continue
		}
		fmt.Fprintf(&b, "send %d, attempt %d\n", a.Sequence, a.Attempt)
	}
	if !wake.IsZero() {
		fmt.Fprintf(&b, "wake at %s\n", wake.Sub(epoch).Round(10*time.Millisecond))
	}
	at := p.Position()
	fmt.Fprintf(&b, "read %d, open %v, room %d\n", at.Read, at.Open, p.Room())
	return b.String()
}
