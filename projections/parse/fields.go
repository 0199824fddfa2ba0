package parse

import (
	"reflect"
	"strings"
)

// Field is a field of a struct, or of one that is embedded in it, as JSON has it.
type Field struct {
	Name    string
	Options string // behind the name, in its tag
	Type    reflect.Type
	Offset  uintptr
}

// Fields returns those of a struct. It is not plain if encoding/json has to think about
// them.
func Fields(t reflect.Type) (fields []Field, isPlain bool) {
	fields, isPlain = fieldsAt(t, 0)
	names := map[string]bool{}
	for _, f := range fields {
		if names[f.Name] {
			return nil, false // One of them hides the other.
		}
		names[f.Name] = true
	}
	return fields, isPlain
}

func fieldsAt(t reflect.Type, offset uintptr) (fields []Field, isPlain bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && (f.Type.Kind() != reflect.Struct || !f.IsExported()):
			return nil, false
		case f.Anonymous && name == "":
			embedded, isPlain := fieldsAt(f.Type, offset+f.Offset)
			if !isPlain {
				return nil, false
			}
			fields = append(fields, embedded...)
			continue
		case tag == "-" || !f.IsExported():
			continue
		case name == "":
			name = f.Name
		}
		if strings.Contains(","+options+",", ",string,") || strings.ContainsFunc(name, unusual) {
			return nil, false
		}
		fields = append(fields, Field{name, options, f.Type, offset + f.Offset})
	}
	return fields, true
}

// unusual says whether a letter is none that the names of members are made of.
func unusual(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '$'
}
