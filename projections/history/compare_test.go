package history_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestCompare runs the transcripts in testdata/compare: two versions of an object
// in YAML, and the lines that tell them apart. A line of bookkeeping is in
// brackets.
func TestCompare(t *testing.T) {
	datadriven.Walk(t, "testdata/compare", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			before, after, ok := strings.Cut(d.Input, "---\n")
			if !ok {
				d.Fatalf(t, "the input is not two documents")
			}
			b, a := canonical(t, before), canonical(t, after)
			lines, err := history.Compare(b, a)
			if err != nil {
				return err.Error()
			}
			if bytes.Equal(a, b) != (len(lines) == 0) {
				d.Fatalf(t, "the two versions are equal or have no lines, but not both")
			}
			var out strings.Builder
			for _, l := range lines {
				if l.Bookkeeping {
					fmt.Fprintf(&out, "(%s)\n", l)
				} else {
					fmt.Fprintln(&out, l)
				}
			}
			return out.String()
		})
	})
}

func canonical(t *testing.T, doc string) []byte {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(doc))
	if err == nil {
		raw, err = events.Canonical(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// No difference goes untold, and none is made up: any two versions of any object.
func TestComparisonsAreSound(t *testing.T) {
	h := projectionstest.Random(7, 2000)
	r := recorded{events: h.Events[:300]}
	for _, e := range h.Events[:300] {
		told, err := history.Tell(r, e)
		if err != nil {
			t.Fatal(err)
		}
		if patched := e.Data[0] == '[' && !events.IsRemoval(e.Data); !patched && len(told.Changes) > 0 {
			t.Errorf("%s\nis told as %v", e.String(), told.Changes)
		}
	}
	var docs [][]byte
	for _, e := range h.Events {
		if e.Data[0] == '{' {
			docs = append(docs, e.Data)
		}
	}
	for i, b := range docs {
		for _, a := range docs[i:min(i+20, len(docs))] {
			lines, err := history.Compare(b, a)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(a, b) != (len(lines) == 0) {
				t.Fatalf("%v tell apart\n%s\n%s", lines, b, a)
			}
		}
	}
}

// Whatever two documents are, they have no lines exactly if they are equal, and
// the lines can be printed.
func FuzzCompare(f *testing.F) {
	for _, seed := range []string{
		`{"spec":{"replicas":3}}`, `{"a":[{"name":"x","v":1},{"name":"y"}]}`, `{"a":[{"name":"y"},{"name":"x","v":1}]}`,
		`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, `{"status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":null}]}}`,
		`{"a":[]}`, `{"a":null}`, `{"a":[null]}`, `[1,[2,{"name":1}],"x"]`, `{"status":{"containerStatuses":[{"name":"a","state":{"running":{}}}]}}`, `{"a":1.50,"":{"":[{}]}}`,
	} {
		for _, other := range []string{`{}`, `{"a":[{"name":"x","v":2}]}`} {
			f.Add([]byte(seed), []byte(other))
		}
	}
	f.Fuzz(func(t *testing.T, before, after []byte) {
		b, err := events.Canonical(before)
		if err != nil {
			return
		}
		a, err := events.Canonical(after)
		if err != nil {
			return
		}
		lines, err := history.Compare(b, a)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if l.String() == "" {
				t.Errorf("an empty line for %q", l.Path)
			}
		}
		if bytes.Equal(a, b) != (len(lines) == 0) {
			t.Fatalf("%v tell apart\n%s\n%s", lines, b, a)
		}
	})
}
