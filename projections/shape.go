package projections

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
)

// shape is the Go type of a resource that nodes write.
type shape struct {
	apiVersion, kind string
	form             func() *form
}

var shapes = map[string]shape{
	"nodes":                      {"v1", "Node", lazily[core.Node]()},
	"pods":                       {"v1", "Pod", lazily[core.Pod]()},
	"events":                     {"v1", "Event", lazily[core.Event]()},
	"leases.coordination.k8s.io": {"coordination.k8s.io/v1", "Lease", lazily[coordination.Lease]()},
}

// lazily makes the form of a type when somebody asks for it.
func lazily[T any]() func() *form {
	return sync.OnceValue(func() *form { return newForm(reflect.TypeFor[T](), map[reflect.Type]*form{}) })
}

// CheckShape refuses what a node writes if an object would come of it that As
// cannot decode. What people write the API has decoded before; what nodes write
// goes to the committer directly, and one object that is not of its kind's shape
// would stop every decider and every list of that kind. The operations are those of
// the change's patch, if it is one.
func CheckShape(c events.Change, ops []events.Op) error {
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
	for _, op := range ops {
		if op.Path != "/status" && !strings.HasPrefix(op.Path, "/status/") {
			return fmt.Errorf("a node may not touch %s, only /status", op.Path)
		}
		if op.Op == "remove" {
			continue // Whatever is taken away, the rest is of the shape that it was.
		}
		f, err := s.form().at(op.Path)
		if err == nil && !f.fits(op.Value) {
			err = decodes(op.Value, f.typ)
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
	if f := s.form(); f.fits(data) {
		return nil
	} else if err := decodes(data, f.typ); err != nil {
		return fmt.Errorf("it is no proper %s: %w", s.kind, err)
	}
	return nil
}

func decodes(value []byte, typ reflect.Type) error {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	return d.Decode(reflect.New(typ).Interface())
}
