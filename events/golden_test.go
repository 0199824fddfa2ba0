package events_test

import (
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

var add = flag.Bool("add", false, "write an example of each rule that has none in testdata/types; examples are never rewritten")

// TestExamples holds every type to the examples in testdata/types, a file each:
// for ever they can be read, are allowed by the owners table, are written as they
// were and have the hash chain that they had. A new rule gets its example from
// "go test ./events -run TestExamples -args -add".
func TestExamples(t *testing.T) {
	rules := make(map[string][]events.Rule)
	for _, r := range events.Rules() {
		rules[r.Type] = append(rules[r.Type], r)
	}
	for typ, of := range rules {
		path := filepath.Join("testdata", "types", strings.ReplaceAll(typ, "*", "any")+".txt")
		raw, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		examples, err := events.ParseText(string(raw))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		var text strings.Builder
		for i := range examples {
			checkExample(t, path, &examples[i])
			text.WriteString(examples[i].Text())
		}
		if text.String() != string(raw) {
			t.Errorf("%s is written otherwise now:\n%s", path, &text)
		}
		for _, r := range of {
			want := example(r)
			if slices.ContainsFunc(examples, func(e events.Event) bool {
				return e.Type == want.Type && e.Object == want.Object && e.Actor == want.Actor
			}) {
				continue
			}
			if !*add {
				t.Errorf("%s on %s by %s has no example in %s; run this test with -args -add", r.Type, r.Resource, r.Writers[0], path)
				continue
			}
			checkExample(t, path, &want)
			text.WriteString(want.Text())
			if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestNoTypeIsForgotten finds examples of types that the table no longer knows.
func TestNoTypeIsForgotten(t *testing.T) {
	files, err := filepath.Glob("testdata/types/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		typ := strings.Replace(strings.TrimSuffix(filepath.Base(f), ".txt"), "any.", "*.", 1)
		if !slices.ContainsFunc(events.Rules(), func(r events.Rule) bool { return r.Type == typ }) {
			t.Errorf("%s is in no rule, but somebody's log may hold it: a type that was released stays in the table", typ)
		}
	}
}

func checkExample(t *testing.T, path string, e *events.Event) {
	t.Helper()
	if err := e.Check(); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	if events.Link([32]byte{}, e) != e.Chain {
		t.Errorf("%s: the chain of %s is another now", path, e.Headline())
	}
}

// example makes an event that a rule allows.
func example(r events.Rule) events.Event {
	resource, group, _ := strings.Cut(r.Resource, ".")
	object := events.Ref{Group: group, Resource: resource, Namespace: "shop", Name: "example"}
	if r.Resource == "*" {
		object.Group, object.Resource = "example.com", "widgets"
		if r.Effect == events.Puts {
			object.Group, object.Resource = "", "masterleases"
		}
	}
	kind, name, _ := strings.Cut(r.Writers[0], ":")
	e := events.Event{
		Sequence: 8, Type: strings.Replace(r.Type, "*", "widget", 1), Object: object, UID: "4c3f",
		Actor: events.Actor{Kind: kind, Name: strings.Replace(name, "*", "example", 1), Version: "v1"},
		Cause: 7, Basis: 7, Time: time.UnixMilli(1767323045678).UTC(), Now: time.UnixMilli(1767323045000).UTC(),
		Optional: r.Optional,
	}
	switch r.Effect {
	case events.Removes:
		e.Data = events.Removal()
	case events.Changes:
		e.Data = events.AppendPatch(nil, exampleOps(r))
	default:
		e.Data = []byte(`{"kind":"Example","metadata":{"name":"example","namespace":"shop","uid":"4c3f"}}`)
	}
	e.Chain = events.Link([32]byte{}, &e)
	return e
}

func exampleOps(r events.Rule) []events.Op {
	if r.Needs != "" {
		needs := strings.SplitN(r.Needs, " ", 3)
		op := events.Op{Op: needs[0], Path: needs[1]}
		if len(needs) > 2 {
			op.Value = []byte(needs[2])
		} else if op.Op != "remove" {
			op.Value = []byte(`"x"`)
		}
		return []events.Op{op}
	}
	var ops []events.Op
	for _, path := range r.Paths {
		ops = append(ops, events.Op{Op: "add", Path: strings.ReplaceAll(path, "*", "0"), Value: []byte(`"x"`)})
	}
	if len(ops) == 0 {
		ops = append(ops, events.Op{Op: "add", Path: "/spec", Value: []byte(`{}`)})
	}
	slices.SortFunc(ops, func(a, b events.Op) int { return cmp.Compare(a.Path, b.Path) })
	return ops
}
