package projections

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// member is a member of an object, or a member of that, such as spec and nodeName.
// The second is empty for the whole of the first.
type member [2]string

// touched are the members in which two versions of an object may differ.
type touched []member

// maxTouched is how many members may be decoded one by one: of many it is less work
// to decode the whole.
const maxTouched = 16

// inherit has an entry be decoded from what is decoded of the version before it,
// from which it differs as a patch says.
func (e *Entry) inherit(before *Entry, ops []events.Op) {
	m := before.memo.Load()
	if m == nil {
		return
	}
	next := &memo{earlier: m.earlier, touched: m.touched}
	if m.object != nil {
		next.earlier, next.touched = m.object, nil
	}
	if next.earlier == nil {
		return
	}
	next.touched = slices.Clip(next.touched)
	for _, op := range ops {
		at, ok := memberAt(op.Path)
		if !ok || len(next.touched) > maxTouched {
			return
		}
		if !slices.Contains(next.touched, at) {
			next.touched = append(next.touched, member{strings.Clone(at[0]), strings.Clone(at[1])})
		}
	}
	e.memo.Store(next)
}

// Succeed has an entry that was not folded be decoded from what is decoded of the
// version before it, as far as the two are the same. It is called before anybody
// else has the entry.
func (e *Entry) Succeed(before *Entry) {
	if before == nil || before.UID != e.UID {
		return
	}
	e.inherit(before, events.AppendDiff(nil, "", before.Raw, e.Raw))
}

// memberAt is the member that holds a path. There is none that holds the root, and
// a name that is written with escapes is nothing that a Go type has.
func memberAt(path string) (m member, ok bool) {
	path, ok = strings.CutPrefix(path, "/")
	if !ok {
		return m, false
	}
	first, rest, _ := strings.Cut(path, "/")
	second, _, _ := strings.Cut(rest, "/")
	return member{first, second}, first != "" && !strings.Contains(first, "~") && !strings.Contains(second, "~")
}

// errWhole says that an object must be decoded whole.
var errWhole = errors.New("it cannot be decoded in parts")

// decode reads the members that are touched from the entry into v, which is a copy of
// an earlier version. It changes nothing that the copy shares with it.
func (t touched) decode(e *Entry, v reflect.Value) error {
	for i, m := range t {
		if slices.ContainsFunc(t[:i], func(b member) bool { return b[0] == m[0] }) {
			continue // All that is touched of it has been read.
		}
		field, known, err := namedField(v, m[0])
		switch {
		case err != nil:
			return err
		case !known:
			continue // Nor would it be if the object were decoded whole.
		}
		value := e.outline.Lookup(e.Raw, m[0])
		if slices.Contains(t, member{m[0]}) || len(value) == 0 || value[0] != '{' || fieldsFor(field.Type()) == nil {
			err = e.decodeField(value, field)
		} else {
			err = t[i:].decodeWithin(e, m[0], value, field)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// decodeWithin reads those members of the value of a member that are touched.
func (t touched) decodeWithin(e *Entry, first string, value []byte, v reflect.Value) error {
	for _, m := range t {
		if m[0] != first {
			continue
		}
		field, known, err := namedField(v, m[1])
		if err != nil {
			return err
		}
		if known {
			field.SetZero()
		}
	}
	for name, value := range events.Members(value) {
		if !t.has(first, name) {
			continue
		}
		field, known, err := namedField(v, string(name[1:len(name)-1]))
		if err == nil && known {
			err = e.decodeField(value, field)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// has says whether a member of a member is touched, given its name as JSON.
func (t touched) has(first string, name []byte) bool {
	for _, m := range t {
		if m[0] == first && len(name) == len(m[1])+2 && string(name[1:len(name)-1]) == m[1] {
			return true
		}
	}
	return false
}

// decodeField reads a value, which is nil if there is none.
func (e *Entry) decodeField(value []byte, field reflect.Value) error {
	field.SetZero()
	if value == nil {
		return nil
	}
	return e.decode(value, field.Addr())
}

// fields are where the fields of a struct lie by their names in JSON; nil if they
// are not all to be found by them.
type fields map[string][]int

// fieldsOf has the fields of types that were asked for.
var fieldsOf sync.Map // of fields, by reflect.Type

// namedField is the field of a struct that has a name in JSON. It says false if there is
// none.
func namedField(v reflect.Value, name string) (field reflect.Value, known bool, err error) {
	all := fieldsFor(v.Type())
	if all == nil {
		return field, false, errWhole
	}
	index, known := all[name]
	if !known {
		return field, false, nil
	}
	return v.FieldByIndex(index), true, nil
}

// fieldsFor are the fields of a type; nil if it is not read field by field.
func fieldsFor(t reflect.Type) fields {
	if all, ok := fieldsOf.Load(t); ok {
		return all.(fields)
	}
	var found fields
	if isPlain(t) {
		if found = (fields{}); !found.add(t, nil) {
			found = nil
		}
	}
	all, _ := fieldsOf.LoadOrStore(t, found)
	return all.(fields)
}

func (f fields) add(t reflect.Type, at []int) bool {
	for i := range t.NumField() {
		field := t.Field(i)
		index := append(slices.Clone(at), i)
		tag := field.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-" || !field.IsExported():
		case strings.Contains(options, "string"):
			return false
		case name == "" && field.Anonymous:
			if field.Type.Kind() != reflect.Struct || !isPlain(field.Type) || !f.add(field.Type, index) {
				return false
			}
		case name == "":
			f[field.Name] = index
		default:
			f[name] = index
		}
	}
	return true
}

// isPlain says whether JSON is read into a type field by field.
func isPlain(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[metav1.Time]() || t == reflect.TypeFor[metav1.MicroTime]() {
		return false
	}
	_, own := reflect.PointerTo(t).MethodByName("UnmarshalJSON")
	_, stream := reflect.PointerTo(t).MethodByName("UnmarshalJSONFrom")
	return !own && !stream
}
