package history_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestFind runs the transcripts in testdata/find. Their commands:
//
//	log                objects that there were, as plural.group/namespace/name, each
//	                   with its document if it has one; with a - before it, that it went
//	find  [asked=NS]   finds each line of the input
//	propose [asked=NS] proposes how each line of the input may go on
//	actors             says who did something
func TestFind(t *testing.T) {
	datadriven.Walk(t, "testdata/find", func(t *testing.T, path string) {
		var r recorded
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "log" {
				r = there(d.Input)
				return ""
			}
			if d.Cmd == "actors" {
				actors, users, err := history.Actors(t.Context(), r)
				return fmt.Sprintf("%q for %q %v\n", actors, users, err)
			}
			n := history.Name{Namespace: "default"}
			if d.MaybeScanArgs(t, "asked", &n.Namespace) {
				n.Asked = true
			}
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				n.Text = strings.TrimSpace(line)
				if d.Cmd == "propose" {
					proposed, err := history.Propose(t.Context(), r, n)
					fmt.Fprintf(&out, "%s: %s %v\n", n.Text, strings.Join(proposed, " "), err)
					continue
				}
				q, err := history.Find(t.Context(), r, n)
				switch {
				case err != nil:
					fmt.Fprintf(&out, "%s: error: %v\n", n.Text, err)
				case q.Resource != "":
					fmt.Fprintf(&out, "%s: all %s in %q\n", n.Text, q.Resource, q.Namespace)
				default:
					fmt.Fprintf(&out, "%s: %s %s\n", n.Text, q.Object, q.UID)
				}
			}
			return out.String()
		})
	})
}

// there is a log in which objects were created.
func there(text string) recorded {
	h := projectionstest.NewHistory()
	uids := map[events.Ref]string{}
	for line := range strings.Lines(text) {
		line, gone := strings.CutPrefix(line, "-")
		name, doc, _ := strings.Cut(strings.TrimSpace(line), " ")
		parts := strings.Split(name, "/")
		var ref events.Ref
		ref.Resource, ref.Group, _ = strings.Cut(parts[0], ".")
		if ref.Name = parts[len(parts)-1]; len(parts) == 3 {
			ref.Namespace = parts[1]
		}
		if gone {
			h.Delete(ref).UID = uids[ref]
			continue
		}
		if doc == "" {
			doc = `{"metadata":{}}`
		}
		h.Create(ref, doc)
		uids[ref] = fmt.Sprintf("00000000-0000-4000-8000-%012d", len(h.Events))
		h.Events[len(h.Events)-1].UID = uids[ref]
	}
	return recorded{events: h.Events}
}
