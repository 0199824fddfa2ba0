package projections

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
)

// shape is the Go type of a resource that nodes write.
type shape struct {
	apiVersion, kind string
	typ              reflect.Type
}

var shapes = map[string]shape{
	"nodes":                      {"v1", "Node", reflect.TypeFor[core.Node]()},
	"pods":                       {"v1", "Pod", reflect.TypeFor[core.Pod]()},
	"events":                     {"v1", "Event", reflect.TypeFor[core.Event]()},
	"leases.coordination.k8s.io": {"coordination.k8s.io/v1", "Lease", reflect.TypeFor[coordination.Lease]()},
}

// CheckShape refuses what a node writes if an object would come of it that As
// cannot decode. What people write the API has decoded before; what nodes write
// goes to the committer directly, and one object that is not of its kind's shape
// would stop every decider and every list of that kind.
func CheckShape(c events.Change) error {
	s, ok := shapes[c.Object.GroupResource()]
	if !ok {
		return fmt.Errorf("nodes write no %s", c.Object.GroupResource())
	}
	if events.IsRemoval(c.Data) {
		return nil
	}
	if bytes.HasPrefix(c.Data, []byte("{")) {
		return s.checkWhole(c.Data)
	}
	ops, err := events.ParsePatch(c.Data)
	if err != nil {
		return err
	}
	for _, op := range ops {
		if op.Path != "/status" && !strings.HasPrefix(op.Path, "/status/") {
			return fmt.Errorf("a node may not touch %s, only /status", op.Path)
		}
		if op.Op == "remove" {
			continue // Whatever is taken away, the rest is of the shape that it was.
		}
		typ, err := typeAt(s.typ, strings.Split(op.Path[1:], "/"))
		if err == nil {
			err = decodes(op.Value, typ)
		}
		if err != nil {
			return fmt.Errorf("%s of a %s: %w", op.Path, s.kind, err)
		}
	}
	return nil
}

func (s shape) checkWhole(data []byte) error {
	kind, _ := events.Text(events.Lookup(data, "kind"))
	version, _ := events.Text(events.Lookup(data, "apiVersion"))
	if kind != s.kind || version != s.apiVersion {
		return fmt.Errorf("it says that it is %s %q, and must be %s %q", version, kind, s.apiVersion, s.kind)
	}
	if err := decodes(data, s.typ); err != nil {
		return fmt.Errorf("it is no proper %s: %w", s.kind, err)
	}
	return nil
}

func decodes(value []byte, typ reflect.Type) error {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	return d.Decode(reflect.New(typ).Interface())
}

// typeAt finds the type of what lies at a path within a type, given as the tokens
// of a JSON pointer. It does not look into what decodes itself, such as a time.
func typeAt(typ reflect.Type, path []string) (reflect.Type, error) {
	for _, token := range path {
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		p := reflect.PointerTo(typ)
		if p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return nil, fmt.Errorf("there is no %q in a %s", token, typ)
		}
		switch typ.Kind() {
		case reflect.Slice, reflect.Map:
			typ = typ.Elem()
		case reflect.Struct:
			field, ok := fieldOf(typ, token)
			if !ok {
				return nil, fmt.Errorf("there is no %q in a %s", token, typ)
			}
			typ = field
		default:
			return nil, fmt.Errorf("there is no %q in a %s", token, typ)
		}
	}
	return typ, nil
}

// fieldOf finds the type of the field that has the name in JSON, also within what
// is embedded.
func fieldOf(typ reflect.Type, name string) (reflect.Type, bool) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name {
			return f.Type, true
		}
		if tag == "" && f.Anonymous && f.Type.Kind() == reflect.Struct {
			if found, ok := fieldOf(f.Type, name); ok {
				return found, true
			}
		}
	}
	return nil, false
}
