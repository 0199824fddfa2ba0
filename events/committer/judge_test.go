package committer

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/events"
)

// TestJudge runs the transcripts:
//
//	given             events, in text form, to fold into the state
//	judge [volatile] [basis=N]
//	                  a proposal: its changes as events in text form, the first of
//	                  which names the actor and the cause, and lines
//	                  "expect OBJECT SEQUENCE". Prints the events that it becomes,
//	                  which are folded, or why it is turned down.
func TestJudge(t *testing.T) {
	datadriven.Walk(t, "testdata/judge", func(t *testing.T, path string) {
		index := newMemIndex()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "given":
				given, err := events.ParseText(d.Input)
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				for i := range given {
					given[i].Sequence = index.Folded() + 1
					index.fold(t, &given[i])
				}
				return fmt.Sprintf("folded to %d\n", index.Folded())
			case "judge":
				p := parseProposal(t, d)
				v := newBench(index, index.Folded()+1, d.HasArg("volatile"))
				if err := v.judge(&p); err != nil {
					return kindOf(err) + ": " + err.Error() + "\n"
				}
				var out strings.Builder
				for i := range v.events {
					out.WriteString(v.events[i].String())
					index.fold(t, &v.events[i])
				}
				checkWrites(t, v, index)
				return out.String()
			}
			d.Fatalf(t, "no command %s", d.Cmd)
			return ""
		})
	})
}

// newBench returns a bench on an index alone.
func newBench(index Index, next uint64, volatile bool) *bench {
	return &bench{below: newOverlay(index), next: next, volatile: volatile, writes: map[events.Ref]standing{}}
}

// checkWrites asserts that the verdict foretold what the fold makes of it.
func checkWrites(t *testing.T, v *bench, index *memIndex) {
	for object, s := range v.writes {
		raw, _, uid, sequence, ok := index.Lookup(object)
		if ok != (s.raw != nil) || ok && (string(raw) != string(s.raw) || uid != s.uid || sequence != s.last) {
			t.Errorf("%s: the verdict says\n%s at %d, and the fold\n%s at %d", object, s.raw, s.last, raw, sequence)
		}
	}
}

func kindOf(err error) string {
	switch err.(type) {
	case *events.ConflictError:
		return "conflict"
	case *events.RefusedError:
		return "refused"
	}
	return fmt.Sprintf("%T", err)
}

func parseProposal(t *testing.T, d *datadriven.TestData) events.Proposal {
	var p events.Proposal
	var text []string
	for line := range strings.Lines(d.Input) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "expect ")
		if !ok {
			text = append(text, line)
			continue
		}
		object, sequence, _ := strings.Cut(rest, " ")
		ref, err := events.ParseRef(object)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(sequence), 10, 64)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		p.Expect = append(p.Expect, events.Expectation{Object: ref, Sequence: n})
	}
	changes, err := events.ParseText(strings.Join(text, ""))
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	for i, e := range changes {
		if i == 0 {
			p.Actor, p.User, p.Because = e.Actor, e.User, e.Cause
		}
		p.Changes = append(p.Changes, events.Change{Type: e.Type, Object: e.Object, UID: e.UID, Data: e.Data, Note: e.Note, Optional: e.Optional})
	}
	d.MaybeScanArgs(t, "basis", &p.Basis)
	return p
}
