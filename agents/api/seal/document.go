package seal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// lastApplied is the annotation in which kubectl keeps the whole object as it was
// last applied, values included.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// simple are the resources of which it is known what else but data and metadata
// they have, and that it tells nothing.
var simple = map[string][]string{
	"secrets":    {"type", "immutable"},
	"configmaps": {"immutable"},
}

// byKey are the members whose own members are sealed one by one, so that the
// history tells which of them were changed.
var byKey = []string{"data", "stringData", "binaryData"}

// replacer says what to put in place of a value; both are canonical. path is a JSON
// pointer to it. Nothing takes it away.
type replacer func(path string, value []byte) ([]byte, error)

// edit has every value replaced that is to be sealed in an object of the resource:
// everything but apiVersion, kind and metadata, and within metadata what repeats
// values. Both documents are canonical, and nothing is decoded: values may be large.
func edit(r events.Ref, doc []byte, replace replacer) ([]byte, error) {
	if len(doc) == 0 || doc[0] != '{' {
		return nil, fmt.Errorf("%s is no JSON object", r)
	}
	plain, isSimple := simple[r.GroupResource()]
	return editMembers(doc, func(name string, value []byte) ([]byte, error) {
		switch {
		case name == "apiVersion" || name == "kind" || slices.Contains(plain, name) || string(value) == "null":
			return value, nil
		case name == "metadata":
			return editMetadata(value, isSimple, replace)
		case slices.Contains(byKey, name) && value[0] == '{':
			return editMembers(value, func(key string, value []byte) ([]byte, error) {
				return replace("/"+name+"/"+escape(key), value)
			})
		}
		return replace("/"+escape(name), value)
	})
}

// editMembers replaces values of an object by name. What is no object stays.
func editMembers(doc []byte, replace replacer) ([]byte, error) {
	if doc[0] != '{' {
		return doc, nil
	}
	// Sealing makes short values longer, and long ones by a third.
	out := append(make([]byte, 0, len(doc)+len(doc)/2+256), '{')
	for name, value := range events.Members(doc) {
		text, _ := events.Text(name)
		value, err := replace(text, value)
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}'), nil
}

// editMetadata leaves metadata readable but for the annotation of kubectl. The
// managed fields of a Secret or ConfigMap name keys; those of other kinds may hold
// the elements of sets.
func editMetadata(doc []byte, isSimple bool, replace replacer) ([]byte, error) {
	return editMembers(doc, func(name string, value []byte) ([]byte, error) {
		switch {
		case name == "annotations" && bytes.Contains(value, []byte(lastApplied)):
			return editMembers(value, func(name string, value []byte) ([]byte, error) {
				if name != lastApplied {
					return value, nil
				}
				return replace("/metadata/annotations/"+escape(lastApplied), value)
			})
		case name == "managedFields" && value[0] == '[' && !isSimple:
			return editManagers(value, replace)
		}
		return value, nil
	})
}

func editManagers(doc []byte, replace replacer) ([]byte, error) {
	out := []byte{'['}
	for i, m := range events.Elements(doc) {
		m, err := editMembers(m, func(name string, value []byte) ([]byte, error) {
			if name != "fieldsV1" {
				return value, nil
			}
			// Not by place: the order of managers changes without their fields.
			return replace("/metadata/managedFields/fieldsV1", value)
		})
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, m...)
	}
	return append(out, ']'), nil
}

var pointerToken = strings.NewReplacer("~", "~0", "/", "~1")

// escape makes a member's name a token of a JSON pointer.
func escape(name string) string {
	return pointerToken.Replace(name)
}

// sealAll seals all values of a canonical document that are to be.
func (k *objectKey) sealAll(r events.Ref, doc []byte) ([]byte, error) {
	return edit(r, doc, func(path string, value []byte) ([]byte, error) { return k.seal(path, value), nil })
}

// openAll opens all values of a canonical document that are sealed.
func (k *objectKey) openAll(r events.Ref, doc []byte) ([]byte, error) {
	return edit(r, doc, func(path string, value []byte) ([]byte, error) {
		if !isSealed(value) {
			return value, nil
		}
		value, err := k.open(path, value)
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return value, err
	})
}

// blank takes all that is sealed out of a canonical document and says in an
// annotation why.
func blank(r events.Ref, doc []byte, annotation, why string) ([]byte, error) {
	_, keyed := simple[r.GroupResource()]
	doc, err := edit(r, doc, func(path string, value []byte) ([]byte, error) {
		switch {
		case !isSealed(value):
			return value, nil
		case strings.HasPrefix(path, "/metadata/annotations/"):
			return nil, nil
		case strings.HasPrefix(path, "/metadata/managedFields/"):
			return []byte("{}"), nil
		case keyed:
			return []byte(`""`), nil
		}
		return nil, nil
	})
	if err != nil || events.Lookup(doc, "metadata") == nil {
		return doc, err
	}
	var annotations map[string]any
	if all := events.Lookup(doc, "metadata", "annotations"); all != nil {
		if err := json.Unmarshal(all, &annotations); err != nil {
			return nil, err
		}
	}
	if annotations == nil {
		annotations = map[string]any{}
	}
	annotations[annotation] = why
	text, err := json.Marshal(annotations)
	if err == nil {
		text, err = events.Canonical(text)
	}
	if err != nil {
		return nil, err
	}
	return events.ApplyOps(doc, []events.Op{{Op: "add", Path: "/metadata/annotations", Value: text}})
}
