package write

import (
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/reprise-run/reprise/projections/parse"
)

// member is a field of a struct, or of one that is embedded in it, as JSON has it.
type member struct {
	name   string // as it is written, with its colon
	offset uintptr
	absent func(at unsafe.Pointer) bool // nil if it is always told
	append appender
}

func appendStruct(members []member) appender {
	return func(b []byte, at unsafe.Pointer) (_ []byte, err error) {
		b = append(b, '{')
		first := true
		for i := range members {
			m := &members[i]
			p := unsafe.Add(at, m.offset)
			if m.absent != nil && m.absent(p) {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			if b, err = m.append(append(b, m.name...), p); err != nil {
				return b, err
			}
		}
		return append(b, '}'), nil
	}
}

// members returns the members of a struct in the order in which they are written. It is not
// plain if encoding/json has to think about them.
func (m maker) members(t reflect.Type) (members []member, isPlain bool) {
	fields, isPlain := parse.Fields(t)
	for _, f := range fields {
		one := member{name: `"` + f.Name + `":`, offset: f.Offset, append: m.appender(f.Type)}
		for _, o := range strings.Split(f.Options, ",") {
			switch o {
			case "omitempty":
				one.absent = either(one.absent, emptyIn(f.Type))
			case "omitzero":
				one.absent = either(one.absent, zeroIn(f.Type))
			}
		}
		members = append(members, one)
	}
	if m.canonical {
		slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	}
	return members, isPlain
}

func either(a, b func(unsafe.Pointer) bool) func(unsafe.Pointer) bool {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	return func(at unsafe.Pointer) bool { return a(at) || b(at) }
}

// emptyIn returns what says whether a value is empty, as encoding/json understands it; nil
// if none is.
func emptyIn(t reflect.Type) func(unsafe.Pointer) bool {
	switch t.Kind() {
	case reflect.String:
		return func(at unsafe.Pointer) bool { return *(*string)(at) == "" }
	case reflect.Slice:
		return func(at unsafe.Pointer) bool { return len(*(*[]byte)(at)) == 0 }
	case reflect.Pointer:
		return func(at unsafe.Pointer) bool { return *(*unsafe.Pointer)(at) == nil }
	case reflect.Bool:
		return func(at unsafe.Pointer) bool { return !*(*bool)(at) }
	case reflect.Map, reflect.Array:
		return func(at unsafe.Pointer) bool { return reflect.NewAt(t, at).Elem().Len() == 0 }
	case reflect.Struct:
		return nil
	}
	return func(at unsafe.Pointer) bool { return reflect.NewAt(t, at).Elem().IsZero() }
}

// zeroIn returns what says whether a value is zero, by its own account if it has one.
func zeroIn(t reflect.Type) func(unsafe.Pointer) bool {
	type zeroer interface{ IsZero() bool }
	if asked := reflect.TypeFor[zeroer](); t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(asked) {
		return func(at unsafe.Pointer) bool { return reflect.NewAt(t, at).Interface().(zeroer).IsZero() }
	}
	if t.Kind() == reflect.Pointer && t.Implements(reflect.TypeFor[zeroer]()) {
		return func(at unsafe.Pointer) bool {
			p := reflect.NewAt(t, at).Elem()
			return p.IsNil() || p.Interface().(zeroer).IsZero()
		}
	}
	return func(at unsafe.Pointer) bool { return reflect.NewAt(t, at).Elem().IsZero() }
}
