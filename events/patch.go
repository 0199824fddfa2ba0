package events

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// removed is the patch of a deletion.
var removed = []byte(`[{"op":"remove","path":""}]`)

// Removal returns the patch of every deletion: it removes the whole object.
func Removal() []byte { return bytes.Clone(removed) }

// IsRemoval says whether a patch is Removal.
func IsRemoval(patch []byte) bool { return bytes.Equal(patch, removed) }

// Op is one operation of an RFC 6902 JSON Patch. Only add, remove and replace
// are used: each says what became of a path without reference to another.
type Op struct {
	Op   string
	Path string
	// Value is canonical JSON; nil for remove.
	Value []byte
}

// String is the text form: replace /spec/replicas 5. A path that is not one
// plain word is quoted as JSON.
func (o Op) String() string {
	path := o.Path
	if word(path) != path || !utf8.ValidString(path) {
		path = string(AppendString(nil, path))
	}
	s := o.Op + " " + path
	if o.Op != "remove" {
		s += " " + string(o.Value)
	}
	return s
}

// AppendPatch appends the JSON Patch that holds the operations, in the encoding
// that Diff uses, which is canonical JSON.
func AppendPatch(b []byte, ops []Op) []byte {
	size := 2
	for _, op := range ops {
		size += len(`{"op":"replace","path":"","value":},`) + len(op.Path) + len(op.Value)
	}
	b = append(slices.Grow(b, size), '[')
	for i, op := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, `{"op":"`...), op.Op...), `","path":`...)
		b = AppendString(b, op.Path)
		if op.Op != "remove" {
			b = append(append(b, `,"value":`...), op.Value...)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

// ParsePatch reads a patch, refusing operations that are not in use and paths
// that are not JSON pointers. The values of the result may share the patch's
// memory.
func ParsePatch(patch []byte) ([]Op, error) { return AppendOps(nil, patch) }

// AppendOps is ParsePatch that appends the operations to others: patches that
// follow each other can be applied in one go.
func AppendOps(ops []Op, patch []byte) ([]Op, error) {
	if all, ok := appendPlain(ops, patch); ok {
		return all, nil
	}
	if !IsCanonical(patch) {
		var err error
		if patch, err = Canonical(patch); err != nil {
			return nil, err
		}
	}
	if patch[0] != '[' {
		return nil, errors.New("not a JSON Patch: it is no array")
	}
	text := "" // Of the patch, once for all paths.
	first := len(ops)
	for all := childrenOf(patch, 0); ; {
		k, ok := all.next()
		if !ok {
			return ops, nil
		}
		if text == "" {
			text = string(patch)
		}
		op, err := parsePatchOp(patch[k.from:k.end], text[k.from:k.end])
		if err != nil {
			return nil, fmt.Errorf("operation %d of the patch: %w", len(ops)-first, err)
		}
		ops = append(ops, op)
	}
}

// appendPlain is AppendOps in one go, for patches as AppendPatch writes them. It
// says false if one is not, and then what is wrong with it is for others to find
// out.
func appendPlain(ops []Op, patch []byte) ([]Op, bool) {
	c := checker{doc: patch}
	if !c.skip('[') {
		return nil, false
	}
	if c.skip(']') {
		return ops, c.i == len(patch)
	}
	if ops == nil {
		ops = make([]Op, 0, 1+len(patch)/100) // about as many as there are
	}
	text := string(patch) // once for all paths
	for {
		var op Op
		switch {
		case c.literal(`{"op":"add",`):
			op.Op = "add"
		case c.literal(`{"op":"replace",`):
			op.Op = "replace"
		case c.literal(`{"op":"remove",`):
			op.Op = "remove"
		default:
			return nil, false
		}
		if !c.literal(`"path":`) {
			return nil, false
		}
		start := c.i
		if !c.str() {
			return nil, false
		}
		op.Path = text[start+1 : c.i-1]
		if strings.IndexByte(op.Path, '\\') >= 0 {
			op.Path = unquoteJSON(patch[start:c.i])
		}
		if op.Op != "remove" {
			if !c.literal(`,"value":`) {
				return nil, false
			}
			start = c.i
			if !c.value(2) {
				return nil, false
			}
			op.Value = patch[start:c.i]
		}
		if !c.skip('}') || checkPointer(op.Path) != nil {
			return nil, false
		}
		ops = append(ops, op)
		if c.skip(']') {
			return ops, c.i == len(patch)
		}
		if !c.skip(',') {
			return nil, false
		}
	}
}

// parsePatchOp reads an operation, which is given as text too.
func parsePatchOp(doc []byte, text string) (Op, error) {
	var op Op
	if doc[0] != '{' {
		return op, errors.New("is no object")
	}
	pathed := false
	for all := childrenOf(doc, 0); ; {
		k, ok := all.next()
		if !ok {
			break
		}
		value := doc[k.from:k.end]
		switch name := string(k.name); {
		case name == `"op"` && value[0] == '"':
			op.Op = opName(value)
		case name == `"path"` && value[0] == '"':
			op.Path, pathed = text[k.from+1:k.end-1], true
			if strings.IndexByte(op.Path, '\\') >= 0 {
				op.Path = unquoteJSON(value)
			}
		case name == `"value"`:
			op.Value = value
		default:
			return op, fmt.Errorf("has an odd member %s", name)
		}
	}
	switch {
	case op.Op == "":
		return op, errors.New("is none of add, remove, replace")
	case !pathed:
		return op, errors.New("has no path")
	case (op.Value == nil) != (op.Op == "remove"):
		return op, fmt.Errorf("%s %s must have a value unless it is a removal", op.Op, op.Path)
	}
	return op, checkPointer(op.Path)
}

// opName returns one of the operations, given as JSON, or "".
func opName(value []byte) string {
	switch string(value) {
	case `"add"`:
		return "add"
	case `"remove"`:
		return "remove"
	case `"replace"`:
		return "replace"
	}
	return ""
}

// checkPointer refuses what is not a JSON pointer, so that each place in a
// document has one path.
func checkPointer(path string) error {
	if path != "" && path[0] != '/' {
		return fmt.Errorf("path %q is not a JSON pointer: it does not begin with /", path)
	}
	for i := strings.IndexByte(path, '~'); i >= 0 && i < len(path); i++ {
		if path[i] == '~' && (i+1 == len(path) || (path[i+1] != '0' && path[i+1] != '1')) {
			return fmt.Errorf("path %q is not a JSON pointer: ~ is written ~0", path)
		}
	}
	return nil
}

// appendToken appends one step of a JSON pointer.
func appendToken(path []byte, token string) []byte {
	path = append(path, '/')
	for i := range len(token) {
		switch c := token[i]; c {
		case '~':
			path = append(path, '~', '0')
		case '/':
			path = append(path, '~', '1')
		default:
			path = append(path, c)
		}
	}
	return path
}

func unescapeToken(t string) string {
	if strings.IndexByte(t, '~') < 0 {
		return t
	}
	return strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
}
