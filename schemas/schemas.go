// Package schemas holds the JSON Schema of each event type and the AsyncAPI
// document as files, for integrators to take, and checks events against them. The
// files are made by events/schema from the owners table.
package schemas

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/schema"
)

//go:generate go run ../cmd/schemas .

//go:embed *.json */*.json
var files embed.FS

// Files are the schemas, as they lie in this directory.
func Files() fs.FS { return files }

// compiled holds each schema once it was asked for.
var compiled sync.Map // path -> func() (*jsonschema.Schema, error)

func compile(path string) (*jsonschema.Schema, error) {
	once, _ := compiled.LoadOrStore(path, sync.OnceValues(func() (*jsonschema.Schema, error) {
		raw, err := files.ReadFile(path)
		if err != nil {
			return nil, err
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource(schema.Base+path, document); err != nil {
			return nil, err
		}
		return c.Compile(schema.Base + path)
	}))
	return once.(func() (*jsonschema.Schema, error))()
}

// Check holds an event's data against the schema of its type.
func Check(e *events.Event) error {
	path, ok := schema.PathOf(e.Type, e.Object)
	if !ok {
		return fmt.Errorf("%s has no schema for %s", e.Type, e.Object.GroupResource())
	}
	data, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Data))
	if err != nil {
		return fmt.Errorf("the data of %s is not JSON: %w", e.Headline(), err)
	}
	if err := check(path, data); err != nil {
		return fmt.Errorf("%s: %w", e.Headline(), err)
	}
	return nil
}

// CheckHeaders holds the headers of an event's message against the schema of the
// envelope, and refuses what the schema does not speak of.
func CheckHeaders(headers map[string][]string) error {
	plain := make(map[string]any, len(headers))
	for name, values := range headers {
		if strings.HasPrefix(name, "Nats-") {
			continue
		}
		if len(values) != 1 || !slices.Contains(schema.Headers(), name) {
			return fmt.Errorf("the header %s is not in events/schema/envelope.go, or there several times", name)
		}
		plain[name] = values[0]
	}
	return check("envelope.json", plain)
}

func check(path string, value any) error {
	s, err := compile(path)
	if err != nil {
		return fmt.Errorf("schemas/%s: %w", path, err)
	}
	if err := s.Validate(value); err != nil {
		text, _ := json.Marshal(value)
		return fmt.Errorf("schemas/%s does not allow it: %w\n%.2000s", path, err, text)
	}
	return nil
}
