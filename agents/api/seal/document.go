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

// replacer says what to put in place of a value. path is a JSON pointer to it. No
// value takes it away.
type replacer func(path string, value json.RawMessage) (json.RawMessage, error)

// members are those of a JSON object, the values as they stand.
type members map[string]json.RawMessage

// edit has every value replaced that is to be sealed in an object of the resource:
// everything but apiVersion, kind and metadata, and within metadata what repeats
// values. The result is canonical.
func edit(r events.Ref, doc []byte, replace replacer) ([]byte, error) {
	var top members
	if err := json.Unmarshal(doc, &top); err != nil {
		return nil, fmt.Errorf("%s is no JSON object: %w", r, err)
	}
	plain, isSimple := simple[r.GroupResource()]
	for name, value := range top {
		var err error
		switch {
		case name == "apiVersion" || name == "kind" || slices.Contains(plain, name) || string(value) == "null":
			continue
		case name == "metadata":
			value, err = editMetadata(value, isSimple, replace)
		case slices.Contains(byKey, name) && value[0] == '{':
			value, err = editMembers("/"+name, value, replace)
		default:
			value, err = replace("/"+escape(name), value)
		}
		if err != nil {
			return nil, err
		}
		top.set(name, value)
	}
	return top.encode()
}

func editMembers(path string, doc json.RawMessage, replace replacer) (json.RawMessage, error) {
	var all members
	if err := json.Unmarshal(doc, &all); err != nil {
		return nil, err
	}
	for name, value := range all {
		value, err := replace(path+"/"+escape(name), value)
		if err != nil {
			return nil, err
		}
		all.set(name, value)
	}
	return all.encode()
}

// editMetadata leaves metadata readable but for the annotation of kubectl. The
// managed fields of a Secret or ConfigMap name keys; those of other kinds may hold
// the elements of sets.
func editMetadata(doc json.RawMessage, isSimple bool, replace replacer) (json.RawMessage, error) {
	var meta members
	if err := json.Unmarshal(doc, &meta); err != nil {
		return nil, err
	}
	if annotations := meta["annotations"]; bytes.Contains(annotations, []byte(lastApplied)) {
		var all members
		if err := json.Unmarshal(annotations, &all); err != nil {
			return nil, err
		}
		if value, there := all[lastApplied]; there {
			value, err := replace("/metadata/annotations/"+escape(lastApplied), value)
			if err != nil {
				return nil, err
			}
			all.set(lastApplied, value)
			if meta["annotations"], err = all.encode(); err != nil {
				return nil, err
			}
		}
	}
	if fields := meta["managedFields"]; len(fields) > 0 && fields[0] == '[' && !isSimple {
		edited, err := editManagers(fields, replace)
		if err != nil {
			return nil, err
		}
		meta["managedFields"] = edited
	}
	return meta.encode()
}

func editManagers(doc json.RawMessage, replace replacer) (json.RawMessage, error) {
	var managers []members
	if err := json.Unmarshal(doc, &managers); err != nil {
		return nil, err
	}
	for _, m := range managers {
		value, there := m["fieldsV1"]
		if !there {
			continue
		}
		// Not by place: the order of managers changes without their fields.
		value, err := replace("/metadata/managedFields/fieldsV1", value)
		if err != nil {
			return nil, err
		}
		m.set("fieldsV1", value)
	}
	return encode(managers)
}

func (m members) set(name string, value json.RawMessage) {
	if value == nil {
		delete(m, name)
	} else {
		m[name] = value
	}
}

func (m members) encode() (json.RawMessage, error) { return encode(m) }

func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// escape makes a member's name a token of a JSON pointer.
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// sealAll seals all values of a document that are to be.
func (k *objectKey) sealAll(r events.Ref, doc []byte) ([]byte, error) {
	sealed, err := edit(r, doc, func(path string, value json.RawMessage) (json.RawMessage, error) {
		value, err := events.Canonical(value)
		return k.seal(path, value), err
	})
	if err != nil {
		return nil, err
	}
	return events.Canonical(sealed)
}

// openAll opens all values of a document that are sealed.
func (k *objectKey) openAll(r events.Ref, doc []byte) ([]byte, error) {
	opened, err := edit(r, doc, func(path string, value json.RawMessage) (json.RawMessage, error) {
		if !isSealed(value) {
			return value, nil
		}
		value, err := k.open(path, value)
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return value, err
	})
	if err != nil {
		return nil, err
	}
	return events.Canonical(opened)
}

// blank takes all that is sealed out of a document and says in it why.
func blank(r events.Ref, doc []byte) ([]byte, error) {
	doc, err := edit(r, doc, func(path string, value json.RawMessage) (json.RawMessage, error) {
		_, keyed := simple[r.GroupResource()]
		switch {
		case !isSealed(value):
			return value, nil
		case strings.HasPrefix(path, "/metadata/annotations/"):
			return nil, nil
		case strings.HasPrefix(path, "/metadata/managedFields/"):
			return json.RawMessage("{}"), nil
		case keyed:
			return json.RawMessage(`""`), nil
		}
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	if doc, err = annotate(doc, Erased, erasedText); err != nil {
		return nil, err
	}
	return events.Canonical(doc)
}

func annotate(doc []byte, name, value string) ([]byte, error) {
	var top struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(doc, &top); err != nil {
		return nil, err
	}
	all := top.Metadata.Annotations
	if all == nil {
		all = map[string]string{}
	}
	all[name] = value
	value2, err := encode(all)
	if err != nil {
		return nil, err
	}
	op := "replace"
	if top.Metadata.Annotations == nil {
		op = "add"
	}
	doc, err = events.Canonical(doc)
	if err != nil {
		return nil, err
	}
	return events.ApplyOps(doc, []events.Op{{Op: op, Path: "/metadata/annotations", Value: value2}})
}
