package projections_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestFold runs the transcripts in testdata/fold. Their commands:
//
//	fold     events in their text form; sequences may be left out. The output is
//	         what they changed, or why they cannot be folded
//	dump     all objects
//	owned    what names uid=U among its owners
//	node     the pods on name=N
//	loose    what has no controller, of resource=R in namespace=N
//
// Beside what is written there, each case is folded again in batches of one, in
// one batch, with all events twice, from a snapshot half way, and by a Builder: all
// must come to the same dump.
func TestFold(t *testing.T) {
	datadriven.Walk(t, "testdata/fold", func(t *testing.T, path string) {
		state := projections.NewState()
		var folded []events.Event
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "fold":
				return foldText(t, d, state, &folded)
			case "dump":
				return dump(t, state.View())
			case "owned":
				return names(slices.Collect(state.View().Owned(argument(t, d, "uid"))))
			case "node":
				return names(slices.Collect(state.View().OnNode(argument(t, d, "name"))))
			case "loose":
				return names(slices.Collect(state.View().Uncontrolled("", argument(t, d, "resource"), argument(t, d, "namespace"))))
			}
			d.Fatalf(t, "no such command")
			return ""
		})
		everyWay(t, folded, dump(t, state.View()))
	})
}

func foldText(t *testing.T, d *datadriven.TestData, state *projections.State, folded *[]events.Event) string {
	batch, err := events.ParseText(d.Input)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	for i := range batch {
		if batch[i].Sequence == 0 {
			batch[i].Sequence = state.Sequence() + uint64(i) + 1
		}
	}
	start := state.View()
	before := dump(t, start)
	changes, err := state.Fold(batch)
	builds(t, start, batch, changes, err)
	if err != nil {
		if after := dump(t, state.View()); after != before {
			t.Errorf("a refused batch has changed the state to\n%s", after)
		}
		return fmt.Sprintf("error: %v\n", err)
	}
	for _, ev := range batch {
		if n := len(*folded); n == 0 || ev.Sequence > (*folded)[n-1].Sequence {
			*folded = append(*folded, ev)
		}
	}
	var out strings.Builder
	for _, c := range changes {
		switch {
		case c.Before == nil:
			fmt.Fprintf(&out, "+ %s\n", c.After.Line())
		case c.After == nil:
			fmt.Fprintf(&out, "- %s\n", c.Before.Line())
		default:
			fmt.Fprintf(&out, "  %s\n", c.After.Line())
		}
	}
	if out.Len() == 0 {
		return "nothing\n"
	}
	return out.String()
}

// everyWay folds the events anew in all the ways in which a projection may meet
// them.
func everyWay(t *testing.T, all []events.Event, want string) {
	t.Helper()
	check := func(how string, s *projections.State) {
		t.Helper()
		if got := dump(t, s.View()); got != want {
			t.Errorf("%s, the events come to\n%s\nand not to\n%s", how, got, want)
		}
	}
	fold := func(s *projections.State, batch []events.Event) {
		t.Helper()
		if _, err := s.Fold(batch); err != nil {
			t.Fatal(err)
		}
	}
	once, single, twice := projections.NewState(), projections.NewState(), projections.NewState()
	fold(once, all)
	check("in one batch", once)
	for i := range all {
		fold(single, all[i:i+1])
		single.View() // A view taken between must not matter.
		fold(twice, all[:i+1])
		fold(twice, all[i:i+1])
	}
	check("one by one", single)
	check("with duplicates", twice)
	for half := range all {
		first, second := projections.NewState(), projections.NewState()
		fold(first, all[:half])
		b := projections.NewBuilder(projectionstest.All(first.View()), first.Sequence())
		for i := half; i < len(all); i += 3 {
			if _, err := b.Fold(all[i:min(i+3, len(all))]); err != nil {
				t.Fatal(err)
			}
		}
		check(fmt.Sprintf("built from %d on", half), b.State())
		for r := range first.View().Resources() {
			if !projections.Any(first.View(), r.Group, r.Resource, "") || projections.Any(first.View(), r.Group, r.Resource+"x", "") {
				t.Errorf("there are %s, and Any does not know it", r.Resource)
			}
			for e := range first.View().List(r.Group, r.Resource, "") {
				if !projections.Any(first.View(), r.Group, r.Resource, e.Ref.Namespace) || projections.Any(first.View(), r.Group, r.Resource, e.Ref.Namespace+"x") {
					t.Errorf("there is %s, and Any does not know it", e.Ref)
				}
				copied := projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, slices.Clone(e.Raw))
				copied.Version = e.Version
				second.Put(copied)
			}
		}
		second.StartAt(first.Sequence())
		fold(second, all[half:])
		check(fmt.Sprintf("from a snapshot at %d", half), second)
	}
}

func dump(t testing.TB, r projections.Reader) string {
	t.Helper()
	var b strings.Builder
	if err := projections.Dump(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func argument(t *testing.T, d *datadriven.TestData, name string) string {
	var value string
	d.MaybeScanArgs(t, name, &value)
	return value
}

func names(all []*projections.Entry) string {
	if len(all) == 0 {
		return "none\n"
	}
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintln(&b, e.Ref)
	}
	return b.String()
}

func TestReader(t *testing.T) {
	projectionstest.Reader(t, func(t *testing.T, entries []*projections.Entry) projections.Reader {
		s := projections.NewState()
		for _, e := range entries {
			s.Put(e)
		}
		return s.View()
	})
}

func TestRandomHistories(t *testing.T) {
	for seed := range uint64(20) {
		h := projectionstest.Random(seed, 60)
		s := projections.NewState()
		if _, err := s.Fold(h.Events); err != nil {
			t.Fatal(err)
		}
		everyWay(t, h.Events, dump(t, s.View()))
		projectionstest.Consistent(t, s.View())
	}
}

func TestViewsDoNotChange(t *testing.T) {
	h := projectionstest.Random(3, 400)
	s := projections.NewState()
	var views []projections.Reader
	var hashes []string
	for i := range h.Events {
		if _, err := s.Fold(h.Events[i : i+1]); err != nil {
			t.Fatal(err)
		}
		views = append(views, s.View())
		hashes = append(hashes, projections.Hash(s.View()))
	}
	for i, v := range views {
		if projections.Hash(v) != hashes[i] || v.Sequence() != uint64(i+1) {
			t.Fatalf("the view of sequence %d has changed", i+1)
		}
	}
}

func TestVolatile(t *testing.T) {
	lease := events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n1"}
	put := func(sequence uint64, doc string) events.Event {
		return events.Event{Sequence: sequence, Type: "lease.renewed", Object: lease, UID: "u1", Actor: events.Actor{Kind: "node", Name: "n1"}, Optional: true, Data: []byte(doc)}
	}
	s := projections.NewVolatileState()
	s.StartAt(40)
	// A gap, and no creation: the log has forgotten them.
	if _, err := s.Fold([]events.Event{put(44, `{"spec":{"n":1}}`), put(45, `{"spec":{"n":2}}`)}); err != nil {
		t.Fatal(err)
	}
	if e := s.View().Get(lease); string(e.Raw) != `{"spec":{"n":2}}` || e.Created != 44 || e.Sequence != 45 {
		t.Errorf("the lease is %s", e.Line())
	}
	gone := events.Event{Type: "lease.deleted", Object: lease, UID: "u1", Actor: events.Actor{Kind: "api"}, Data: events.Removal()}
	for sequence := uint64(46); sequence < 48; sequence++ { // The second time there is nothing.
		gone.Sequence = sequence
		if _, err := s.Fold([]events.Event{gone}); err != nil {
			t.Fatal(err)
		}
	}
	if s.Len() != 0 || s.Sequence() != 47 {
		t.Errorf("%d objects are left at %d", s.Len(), s.Sequence())
	}
}
