package schema

import (
	"encoding/json"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// describePatch is for data that is a JSON Patch (RFC 6902): an array of
// operations on the paths that the type may touch.
func (d *description) describePatch(s object) {
	s["type"], s["minItems"] = "array", 1
	s["items"] = object{"$ref": "#/$defs/operation"}
	s["$defs"] = object{"operation": operation()}
	var each []any
	for _, r := range d.rules {
		if restriction := restrict(r); len(restriction) > 0 {
			each = append(each, restriction)
		}
	}
	switch {
	case len(each) < len(d.rules): // One of the rules restricts nothing.
	case len(each) == 1:
		for name, value := range each[0].(object) {
			if name == "items" {
				value = object{"allOf": []any{s["items"], value}}
			}
			s[name] = value
		}
	default:
		s["anyOf"] = each
	}
}

// operation is what every operation of a patch looks like.
func operation() object {
	return object{
		"type": "object", "additionalProperties": false, "required": []string{"op", "path"},
		"properties": object{
			"op":    object{"enum": []string{"add", "remove", "replace"}},
			"path":  object{"type": "string", "pattern": "^/"},
			"value": true,
		},
		"if":   object{"properties": object{"op": object{"const": "remove"}}},
		"then": object{"properties": object{"value": false}},
		"else": object{"required": []string{"value"}},
	}
}

// restrict says what a rule allows beyond that.
func restrict(r events.Rule) object {
	o := object{}
	if len(r.Writers) > 0 && (len(r.Paths) > 0 || r.Needs != "") {
		o["description"] = "Written by " + strings.Join(r.Writers, ", ") + "."
	}
	if len(r.Paths) > 0 {
		o["items"] = object{"properties": object{"path": object{"pattern": pathPattern(r.Paths)}}}
	}
	if r.Needs != "" {
		o["contains"] = need(r.Needs)
	}
	return o
}

// pathPattern matches the pointers that a rule with the paths may touch.
func pathPattern(paths []string) string {
	var alternatives []string
	for _, p := range append(append([]string(nil), paths...), events.AlwaysPaths()...) {
		tokens := strings.Split(strings.TrimPrefix(p, "/"), "/")
		for i, t := range tokens {
			if t == "*" {
				tokens[i] = "[^/]*"
			} else {
				tokens[i] = escapePattern(t)
			}
		}
		alternatives = append(alternatives, strings.Join(tokens, "/"))
	}
	return "^/(" + strings.Join(alternatives, "|") + ")(/|$)"
}

// need is the operation that a patch must have: "add /spec/paused true", or the
// beginning of that.
func need(text string) object {
	words := strings.SplitN(text, " ", 3)
	properties := object{"op": object{"const": words[0]}}
	if len(words) > 1 {
		properties["path"] = object{"const": words[1]}
	}
	if len(words) > 2 {
		properties["value"] = object{"const": json.RawMessage(words[2])}
	}
	return object{"properties": properties}
}

// escapePattern makes text mean itself in a pattern.
func escapePattern(text string) string {
	return strings.NewReplacer(".", `\.`, "+", `\+`, "$", `\$`).Replace(text)
}
