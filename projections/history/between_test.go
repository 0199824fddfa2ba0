package history_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestBetween runs the transcripts in testdata/between. Their commands:
//
//	log   events in their text form; sequences may be left out
//	diff  from=N to=N [uid=U] [resource=R] [namespace=N] [labels=L]
func TestBetween(t *testing.T) {
	datadriven.Walk(t, "testdata/between", func(t *testing.T, path string) {
		var r recorded
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "log" {
				r = readLog(t, d.Input)
				return ""
			}
			var w history.Range
			d.ScanArgs(t, "from", &w.From)
			d.ScanArgs(t, "to", &w.To)
			d.MaybeScanArgs(t, "uid", &w.UID)
			d.MaybeScanArgs(t, "resource", &w.Resource)
			d.MaybeScanArgs(t, "namespace", &w.Namespace)
			d.MaybeScanArgs(t, "labels", &w.Labels)
			var out strings.Builder
			for diff, err := range history.Between(t.Context(), r, w) {
				if err != nil {
					return err.Error()
				}
				out.WriteString(show(diff))
			}
			return out.String()
		})
	})
}

// readLog numbers the events that have no sequence.
func readLog(t *testing.T, text string) recorded {
	t.Helper()
	all, err := events.ParseText(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].Sequence = uint64(i + 1)
		all[i].Time = projectionstest.Epoch
	}
	return recorded{events: all}
}

func show(d history.Difference) string {
	var marks []string
	for mark, has := range map[string]bool{"fleeting": d.Fleeting(), "another": d.Another, "bookkeeping": d.Bookkeeping()} {
		if has {
			marks = append(marks, mark)
		}
	}
	slices.Sort(marks)
	out := fmt.Sprintf("%s  %d -> %d  %d events, %d to %d, by %s %s %v\n", d.Object, d.Before, d.After, d.Events, d.Touched, d.Newest, d.Actor, d.User, marks)
	for _, l := range d.Changes {
		out += "  " + l.String() + "\n"
	}
	return out
}

// The events between two moments lead to the same differences as two whole states
// do, from wherever they are resumed.
func TestDifferencesAreThoseOfTheStates(t *testing.T) {
	h := projectionstest.Random(9, 400)
	r := recorded{events: h.Events}
	for _, w := range []history.Range{{From: 0, To: 400}, {From: 1, To: 2}, {From: 100, To: 100}, {From: 50, To: 333}, {From: 200, To: 260, Namespace: "ns1"}, {From: 20, To: 390, Resource: "pods"}} {
		var got []string
		for d, err := range history.Between(t.Context(), r, w) {
			if err != nil {
				t.Fatal(err)
			}
			if !d.Fleeting() {
				got = append(got, fmt.Sprintf("%s %d %d", d.Object, d.Before, d.After))
			}
			resumed := w
			resumed.Resume = d.Touched
			for again, err := range history.Between(t.Context(), r, resumed) {
				if err != nil || show(again) != show(d) {
					t.Fatalf("resumed at %d it tells %s, not %s: %v", d.Touched, show(again), show(d), err)
				}
				break
			}
		}
		slices.Sort(got)
		if want := ofStates(t, r, w); !slices.Equal(got, want) {
			t.Errorf("between %d and %d:\n%s\nwant\n%s", w.From, w.To, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// ofStates compares two whole states.
func ofStates(t *testing.T, r recorded, w history.Range) (all []string) {
	before, err := r.StateAt(t.Context(), w.From)
	if err != nil {
		t.Fatal(err)
	}
	after, err := r.StateAt(t.Context(), w.To)
	if err != nil {
		t.Fatal(err)
	}
	refs := map[events.Ref]bool{}
	for _, e := range slices.Concat(projectionstest.All(before.View()), projectionstest.All(after.View())) {
		refs[e.Ref] = true
	}
	for ref := range refs {
		b, a := before.View().Get(ref), after.View().Get(ref)
		if (b != nil && a != nil && bytes.Equal(b.Raw, a.Raw)) || (w.Namespace != "" && ref.Namespace != w.Namespace) || (w.Resource != "" && ref.GroupResource() != w.Resource) {
			continue
		}
		all = append(all, fmt.Sprintf("%s %d %d", ref, sequenceOf(b), sequenceOf(a)))
	}
	slices.Sort(all)
	return all
}

func sequenceOf(e *projections.Entry) uint64 {
	if e == nil {
		return 0
	}
	return e.Sequence
}
