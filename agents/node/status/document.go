package status

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
)

// document is a pod's status as a Go type, and its members in canonical JSON as far as
// they were asked for. Most members are the same in two statuses that follow each other,
// and share their memory: nothing of those is encoded or compared.
type document struct {
	status *v1.PodStatus
	raw    []byte            // what the members not in known are in; nil if there is no status yet
	known  map[string][]byte // nil for a member that is not there
}

// become makes the document that of another status, and returns the patch of a pod that
// says so, nil if nothing changes.
func (d *document) become(after *v1.PodStatus) ([]byte, error) {
	before := d.status
	d.status = after
	if d.raw == nil {
		var err error
		if d.raw, err = canonical(after); err != nil {
			return nil, err
		}
		return events.AppendPatch(nil, []events.Op{{Op: "add", Path: "/status", Value: d.raw}}), nil
	}
	var changed []member
	var delta v1.PodStatus
	was, is, only := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem(), reflect.ValueOf(&delta).Elem()
	for _, m := range members() {
		if value := is.Field(m.index); !shared(was.Field(m.index), value) {
			only.Field(m.index).Set(value)
			changed = append(changed, m)
		}
	}
	raw, err := canonical(&delta)
	if err != nil {
		return nil, err
	}
	var ops []events.Op
	for _, m := range changed {
		old, known := d.known[m.name]
		if !known {
			old = events.Lookup(d.raw, m.name)
		}
		value := events.Lookup(raw, m.name)
		ops = events.AppendDiff(ops, "/status/"+m.name, old, value)
		if d.known == nil {
			d.known = map[string][]byte{}
		}
		d.known[m.name] = value
	}
	if len(ops) == 0 {
		return nil, nil
	}
	return events.AppendPatch(nil, ops), nil
}

// member is a field of a status by its name in JSON.
type member struct {
	name  string
	index int
}

// members are the fields of a status in the order of their names. All are left out of
// JSON if they are empty.
var members = sync.OnceValue(func() (out []member) {
	for field := range reflect.TypeFor[v1.PodStatus]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		out = append(out, member{name, field.Index[0]})
	}
	slices.SortFunc(out, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	return out
})

// shared says that two values are equal without looking at what they lead to.
func shared(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Slice:
		return a.Len() == b.Len() && a.UnsafePointer() == b.UnsafePointer()
	case reflect.Map:
		return a.UnsafePointer() == b.UnsafePointer()
	}
	return a.Equal(b)
}

func canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return events.Canonical(raw)
}
