package replay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/agents/scheduler/configuration"
	"github.com/reprise-run/reprise/events"
)

// after lets time pass.
func (b *book) after(d time.Duration) { b.now = b.now.Add(d) }

// schedule has a scheduler decide, which takes it ten milliseconds.
func (b *book) schedule(s runner.Decider) {
	b.t.Helper()
	b.ask(s, queue)
}

// end is what a node says when a pod is gone, or over.
func (b *book) end(name string, over bool) {
	b.t.Helper()
	e := b.state.View().Get(pod(name))
	ev := events.Event{Type: "pod.removed", Object: e.Ref, UID: e.UID, Actor: events.Actor{Kind: "node", Name: "n1"}, Data: events.Removal()}
	if over {
		ev.Type, ev.Data = "pod.succeeded", []byte(`[{"op":"replace","path":"/status/phase","value":"Succeeded"}]`)
	}
	b.append(ev)
}

// TestTrial runs the transcripts: a history, a line an event,
//
//	node NAME CPU       a node comes
//	gone NAME           a node goes
//	pod NAME CPU        a pod comes
//	over NAME           it has ended
//	removed NAME        it is gone
//	delete NAME         a person deletes a pod that waits
//	decide              the scheduler decides
//	wait DURATION
//
// and what would have been with the configuration in the file that try names.
func TestTrial(t *testing.T) {
	datadriven.Walk(t, "testdata/trial", func(t *testing.T, path string) {
		if strings.HasSuffix(path, ".yaml") {
			return
		}
		var b *book
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "history":
				b = newBook(t)
				s := scheduler.New("")
				for line := range strings.Lines(d.Input) {
					b.line(d, s, strings.Fields(line))
				}
				replayed, differences := differences(t, b.copy(), replay.Options{})
				return fmt.Sprintf("%d events, %d differences\n%s", len(b.log), replayed.Differences, differences)
			case "try":
				text, err := os.ReadFile(filepath.Join(filepath.Dir(path), d.CmdArgs[0].Key))
				if err != nil {
					t.Fatal(err)
				}
				policy, err := configuration.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				first := b.try(policy)
				if again := b.try(policy); again != first {
					t.Errorf("the second time it is\n%s\nand was\n%s", again, first)
				}
				return first
			}
			d.Fatalf(t, "no such command")
			return ""
		})
	})
}

func (b *book) line(d *datadriven.TestData, s runner.Decider, words []string) {
	b.t.Helper()
	switch words[0] {
	case "node":
		b.node(words[1], words[2])
	case "gone":
		ref := events.Ref{Resource: "nodes", Name: words[1]}
		b.append(events.Event{Type: "node.deleted", Object: ref, UID: words[1], Actor: events.Actor{Kind: "api"}, Data: events.Removal()})
	case "pod":
		b.pod(words[1], words[2])
	case "over", "removed":
		b.end(words[1], words[0] == "over")
	case "delete":
		b.append(events.Event{Type: "pod.deleted", Object: pod(words[1]), UID: words[1], Actor: events.Actor{Kind: "api"}, Data: events.Removal()})
	case "decide":
		b.schedule(s)
	case "wait":
		while, err := time.ParseDuration(words[1])
		if err != nil {
			d.Fatalf(b.t, "%v", err)
		}
		b.after(while)
	default:
		d.Fatalf(b.t, "no event %q", words[0])
	}
}

func (b *book) copy() []events.Event { return append([]events.Event(nil), b.log...) }

// try tells what would have been with a policy, and how many pods the simulation
// puts elsewhere with the default one.
func (b *book) try(policy scheduler.Policy) string {
	b.t.Helper()
	survey := replay.NewSurvey(nil)
	if err := survey.Feed(b.copy()); err != nil {
		b.t.Fatal(err)
	}
	var out strings.Builder
	run := func(p scheduler.Policy, tell func(replay.Placement)) replay.Outcome {
		s, err := scheduler.NewWith("", p)
		if err != nil {
			b.t.Fatal(err)
		}
		trial := replay.NewTrial(s, survey, nil, tell)
		if err := trial.Feed(b.copy()); err != nil {
			b.t.Fatal(err)
		}
		return trial.Finish()
	}
	o := run(policy, func(p replay.Placement) { out.WriteString(p.Text()) })
	out.WriteString(o.Text())
	check := run(scheduler.Policy{}, nil)
	fmt.Fprintf(&out, "as it was: %d the same, %d different\n", check.Same, check.Different+check.OnlyNow+check.OnlyThen)
	return out.String()
}
