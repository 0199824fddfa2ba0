package projections

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// form is a Go type of the Kubernetes API made ready for looking whether JSON
// decodes to it, without decoding it. What it is not sure of it says no to, and then
// the decoder must find out.
type form struct {
	kind   formKind
	typ    reflect.Type
	fields map[string]*form // of a structure, by their names in JSON
	elem   *form            // of a list or map
	layout string           // of a moment
	// unmarshals says of what is opaque that it has a method for being decoded.
	unmarshals bool
}

type formKind int

const (
	opaque formKind = iota // decodes itself, or is rare
	structure
	list
	mapping
	text
	truth
	whole
	moment
)

// newForm makes the form of a type, with the help of those that are made.
func newForm(typ reflect.Type, known map[reflect.Type]*form) *form {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if f := known[typ]; f != nil {
		return f
	}
	f := &form{typ: typ}
	known[typ] = f
	switch kind := typ.Kind(); {
	case typ == reflect.TypeFor[metav1.Time]():
		f.kind, f.layout = moment, time.RFC3339
	case typ == reflect.TypeFor[metav1.MicroTime]():
		f.kind, f.layout = moment, metav1.RFC3339Micro
	case decodesItself(typ):
		f.unmarshals = reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Unmarshaler]())
	case kind == reflect.Struct:
		f.kind, f.fields = structure, map[string]*form{}
		f.addFields(typ, known)
	case kind == reflect.Slice && typ.Elem().Kind() != reflect.Uint8:
		f.kind, f.elem = list, newForm(typ.Elem(), known)
	case kind == reflect.Map && typ.Key().Kind() == reflect.String && !decodesItself(typ.Key()):
		f.kind, f.elem = mapping, newForm(typ.Elem(), known)
	case kind == reflect.String:
		f.kind = text
	case kind == reflect.Bool:
		f.kind = truth
	case kind == reflect.Int || kind == reflect.Int32 || kind == reflect.Int64:
		f.kind = whole
	}
	return f
}

func decodesItself(typ reflect.Type) bool {
	p := reflect.PointerTo(typ)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// addFields adds the fields of a type, also those within what is embedded.
func (f *form) addFields(typ reflect.Type, known map[reflect.Type]*form) {
	for i := range typ.NumField() {
		field := typ.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-" || strings.Contains(options, "string"):
		case name == "" && field.Anonymous && field.Type.Kind() == reflect.Struct:
			f.addFields(field.Type, known)
		case name != "" && field.IsExported() && f.fields[name] == nil:
			f.fields[name] = newForm(field.Type, known)
		}
	}
}

// at returns the form of what lies at a JSON pointer below. It does not look into
// what decodes itself, such as a time.
func (f *form) at(pointer string) (*form, error) {
	for rest, more := strings.CutPrefix(pointer, "/"); more; {
		var token string
		token, rest, more = strings.Cut(rest, "/")
		within := f.elem
		if f.kind == structure {
			within = f.fields[token]
		}
		if within == nil {
			return nil, fmt.Errorf("there is no %q in a %s", token, f.typ)
		}
		f = within
	}
	return f, nil
}

// fits says whether canonical JSON decodes to the type for certain.
func (f *form) fits(value []byte) bool {
	if len(value) == 0 {
		return false
	}
	first := value[0]
	if first == 'n' && f.kind != opaque {
		return true // null leaves anything as it is
	}
	switch f.kind {
	case structure:
		return first == '{' && f.membersFit(value)
	case mapping:
		return first == '{' && f.valuesFit(value)
	case list:
		return first == '[' && f.elementsFit(value)
	case text:
		return first == '"'
	case truth:
		return first == 't' || first == 'f'
	case whole:
		return isWhole(value)
	case moment:
		_, err := time.Parse(f.layout, plainString(value))
		return err == nil
	}
	if f.unmarshals {
		return reflect.New(f.typ).Interface().(json.Unmarshaler).UnmarshalJSON(value) == nil
	}
	return decodes(value, f.typ) == nil
}

func (f *form) membersFit(value []byte) bool {
	for name, v := range events.Members(value) {
		if len(name) < 2 {
			return false
		}
		// One whose name is escaped is no field's.
		if field := f.fields[string(name[1:len(name)-1])]; field == nil || !field.fits(v) {
			return false
		}
	}
	return true
}

func (f *form) valuesFit(value []byte) bool {
	for _, v := range events.Members(value) {
		if !f.elem.fits(v) {
			return false
		}
	}
	return true
}

func (f *form) elementsFit(value []byte) bool {
	for _, v := range events.Elements(value) {
		if !f.elem.fits(v) {
			return false
		}
	}
	return true
}

// isWhole says whether a JSON number is written as a whole one of few digits.
func isWhole(value []byte) bool {
	digits := value
	if digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 9 {
		return false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return false
		}
	}
	return true
}
