package schemas_test

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"os"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/schema"
	"github.com/reprise-run/reprise/schemas"
)

// TestUpToDate fails if the owners table says something else than the files.
func TestUpToDate(t *testing.T) {
	want := schema.Files()
	err := fs.WalkDir(schemas.Files(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		have, err := fs.ReadFile(schemas.Files(), path)
		if err == nil && !bytes.Equal(have, want[path]) {
			t.Errorf("schemas/%s is stale: run `go generate ./schemas`", path)
		}
		delete(want, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path := range want {
		t.Errorf("schemas/%s is missing: run `go generate ./schemas`", path)
	}
}

// examples are the golden examples of all types.
func examples(t *testing.T) []events.Event {
	t.Helper()
	found, err := filepath.Glob("../events/testdata/types/*.txt")
	if err != nil || len(found) == 0 {
		t.Fatalf("there are no examples: %v", err)
	}
	var all []events.Event
	for _, f := range found {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		of, err := events.ParseText(string(raw))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, of...)
	}
	return all
}

// TestExamples holds the golden example of every type to its schema, headers and
// data.
func TestExamples(t *testing.T) {
	for _, e := range examples(t) {
		if err := schemas.Check(&e); err != nil {
			t.Error(err)
		}
		e.Sequence = 1
		headers, _ := jetstream.Encode(&e)
		if err := schemas.CheckHeaders(headers); err != nil {
			t.Errorf("%s: %v", e.Headline(), err)
		}
	}
}

// TestSchemasRefuseWhatTheTableRefuses changes good examples so that the owners
// table refuses them; where that is because of the data, so must the schema.
func TestSchemasRefuseWhatTheTableRefuses(t *testing.T) {
	spoilt := 0
	for _, e := range examples(t) {
		for _, data := range []string{
			`[]`, `{}`, `"x"`, `[{"op":"remove","path":""}]`, `[{"op":"replace","path":"","value":{}}]`,
			`[{"op":"replace","path":"/kind","value":"Other"}]`, `[{"op":"move","from":"/a","path":"/status"}]`,
			`[{"op":"add","path":"/status"}]`, `[{"op":"add","path":"/statusx","value":1}]`,
			`[{"op":"add","path":"/metadata/generation","value":2}]`,
		} {
			bad := e
			bad.Data = []byte(data)
			tableRefuses, schemaRefuses := bad.Check() != nil, schemas.Check(&bad) != nil
			// A rule of another writer may allow what this writer may not.
			if tableRefuses && !schemaRefuses && onlyWriter(e.Type) {
				t.Errorf("%s: the owners table refuses %s (%v) and its schema does not", e.Headline(), data, bad.Check())
			}
			// The schema asks for what makes an object; the table leaves that to the gate.
			if !tableRefuses && schemaRefuses && data != `{}` {
				t.Errorf("%s: its schema refuses %s and the owners table does not: %v", e.Headline(), data, schemas.Check(&bad))
			}
			if schemaRefuses {
				spoilt++
			}
		}
	}
	if spoilt < 300 {
		t.Errorf("the schemas refused only %d spoilt events", spoilt)
	}
}

func onlyWriter(typ string) bool {
	n := 0
	for _, r := range events.Rules() {
		if r.Type == typ {
			n++
		}
	}
	return n == 1
}

// TestCustomKindsMayBearBuiltInNames shows that a schema is found by type and
// resource: somebody's own kind may be called Pod too.
func TestCustomKindsMayBearBuiltInNames(t *testing.T) {
	own, _ := schema.PathOf("pod.created", events.Ref{Group: "example.com", Resource: "pods"})
	ours, _ := schema.PathOf("pod.created", events.Ref{Resource: "pods"})
	if own != "any/any.created.json" || ours != "pods/pod.created.json" {
		t.Errorf("pod.created is described by %s in example.com and by %s in core", own, ours)
	}
	if _, ok := schema.PathOf("pod.evaporated", events.Ref{Resource: "pods"}); ok {
		t.Error("there is a schema for pod.evaporated")
	}
	if err := schemas.CheckHeaders(map[string][]string{"ce-mood": {"good"}}); err == nil || !strings.Contains(err.Error(), "ce-mood") {
		t.Errorf("an unknown header was accepted: %v", err)
	}
}
