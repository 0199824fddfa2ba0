// Package schema describes the events to those who read them from outside: a JSON
// Schema (2020-12) of what each event type carries, one of the envelope, and an
// AsyncAPI document that says where they are published. All of it is computed
// from the owners table, so it cannot say anything else than what the committer
// lets pass.
//
// The files lie in the directory schemas at the top of the repository; `go
// generate ./schemas` writes them anew, and a test fails if that was forgotten.
package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// Base is what the ids of all schemas begin with. The number is the version of
// the envelope: within it, schemas only ever allow more.
const Base = "https://reprise.run/schemas/1/"

// dialect is the version of JSON Schema in use.
const dialect = "https://json-schema.org/draft/2020-12/schema"

// anyResource is the directory of the types that any resource may have.
const anyResource = "any"

// object is a JSON object to be.
type object = map[string]any

// Files returns what belongs into the directory schemas, by path.
func Files() map[string][]byte {
	all := map[string][]byte{"envelope.json": encode(envelope()), "asyncapi.json": encode(asyncAPI())}
	for _, d := range described {
		all[d.path()] = encode(d.schema())
	}
	return all
}

// PathOf is the file that describes the data of an event of the type about the
// object. It says false if the owners table does not know the type.
func PathOf(typ string, about events.Ref) (string, bool) {
	noun, fact, _ := strings.Cut(typ, ".")
	resource := about.GroupResource()
	for _, k := range []key{
		{noun + "." + fact, resource}, {noun + "." + fact, "*"}, {"*." + fact, resource}, {"*." + fact, "*"},
	} {
		if d, ok := byKey[k]; ok {
			return d.path(), true
		}
	}
	return "", false
}

// key is what an event type means something for.
type key struct{ typ, resource string }

// description is an event type on a resource, with all the rules of the owners
// table for it.
type description struct {
	key
	rules []events.Rule
	// kind is set for the creation of an object of a kind that is built in.
	kind *Kind
}

// described are all types, in the order of their paths.
var described, byKey = describe(events.Rules())

func describe(rules []events.Rule) ([]*description, map[key]*description) {
	found := make(map[key]*description)
	var all []*description
	add := func(k key, r events.Rule, kind *Kind) {
		if found[k] == nil {
			found[k] = &description{key: k, kind: kind}
			all = append(all, found[k])
		}
		found[k].rules = append(found[k].rules, r)
	}
	for _, r := range rules {
		add(key{r.Type, r.Resource}, r, nil)
		if r.Type != "*.created" {
			continue
		}
		for _, kind := range Kinds() {
			add(key{strings.ToLower(kind.Kind) + ".created", kind.GroupResource()}, r, &kind)
		}
	}
	slices.SortFunc(all, func(a, b *description) int { return strings.Compare(a.path(), b.path()) })
	return all, found
}

func (d *description) path() string {
	directory, typ := d.resource, d.typ
	if directory == "*" {
		directory = anyResource
	}
	return directory + "/" + strings.Replace(typ, "*", anyResource, 1) + ".json"
}

// schema describes the data of the type's events.
func (d *description) schema() object {
	s := object{
		"$schema": dialect, "$id": Base + d.path(), "title": d.typ, "description": d.doc(),
		"x-reprise-type": d.typ, "x-reprise-resource": d.resource, "x-reprise-writers": d.writers(),
	}
	if d.rules[0].Optional {
		s["x-reprise-optional"] = true
	}
	switch d.rules[0].Effect {
	case events.Creates, events.Puts:
		d.describeWhole(s)
	case events.Removes:
		var removal any
		if err := json.Unmarshal(events.Removal(), &removal); err != nil {
			panic(err)
		}
		s["const"] = removal
	case events.Changes:
		d.describePatch(s)
	}
	return s
}

func (d *description) doc() string {
	var all []string
	for _, r := range d.rules {
		if !slices.Contains(all, r.Doc) {
			all = append(all, r.Doc)
		}
	}
	return strings.Join(all, " ")
}

func (d *description) writers() []string {
	var all []string
	for _, r := range d.rules {
		all = append(all, r.Writers...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// describeWhole is for data that is the whole object.
func (d *description) describeWhole(s object) {
	apiVersion, kind := object{"type": "string", "minLength": 1}, object{"type": "string", "minLength": 1}
	if d.kind != nil {
		apiVersion = object{"type": "string", "pattern": d.kind.apiVersions()}
		kind = object{"const": d.kind.Kind}
		s["$comment"] = fmt.Sprintf("The object is of the Kubernetes OpenAPI definition %s, which the cluster's API serves below /openapi/v3.", d.kind.Definition)
		s["x-kubernetes-definition"] = d.kind.Definition
	}
	s["type"] = "object"
	s["required"] = []string{"kind", "metadata"}
	if d.resource == "*" {
		// The API's storage wraps what is not JSON.
		s["required"] = []string{"kind"}
		s["if"] = object{"properties": object{"kind": object{"const": "Opaque"}}, "required": []string{"value"}}
		s["then"] = object{"properties": object{"value": object{"type": "string", "contentEncoding": "base64"}}}
		s["else"] = object{"required": []string{"metadata"}}
	}
	metadata := object{
		"type": "object",
		"properties": object{
			"name": object{"type": "string"}, "namespace": object{"type": "string"}, "uid": object{"type": "string"},
		},
	}
	if d.resource != "*" { // What the API server keeps for itself may have no name.
		metadata["required"] = []string{"name"}
	}
	s["properties"] = object{"apiVersion": apiVersion, "kind": kind, "metadata": metadata}
}

// Kind is a kind of object that every cluster has.
type Kind struct {
	Group, Resource, Kind string
	// Definition is the kind's name in the Kubernetes OpenAPI document.
	Definition string
}

// GroupResource is the resource as the owners table names it.
func (k Kind) GroupResource() string {
	return events.Ref{Group: k.Group, Resource: k.Resource}.GroupResource()
}

// apiVersions is the pattern of the versions that objects of the kind may be in.
func (k Kind) apiVersions() string {
	const version = `v[0-9]+((alpha|beta)[0-9]+)?$`
	if k.Group == "" {
		return "^" + version
	}
	return "^" + escapePattern(k.Group) + "/" + version
}

func encode(o object) []byte {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("a schema cannot be encoded: %v", err))
	}
	return append(b, '\n')
}
