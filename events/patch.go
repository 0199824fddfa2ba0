package events

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
		path = string(appendString(nil, path))
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
	b = append(b, '[')
	for i, op := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, `{"op":"`...), op.Op...), `","path":`...)
		b = appendString(b, op.Path)
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
func ParsePatch(patch []byte) ([]Op, error) {
	if !IsCanonical(patch) {
		var err error
		if patch, err = Canonical(patch); err != nil {
			return nil, err
		}
	}
	if patch[0] != '[' {
		return nil, errors.New("not a JSON Patch: it is no array")
	}
	var ops []Op
	for all := childrenOf(patch, 0); ; {
		k, ok := all.next()
		if !ok {
			return ops, nil
		}
		op, err := parsePatchOp(patch[k.from:k.end])
		if err != nil {
			return nil, fmt.Errorf("operation %d of the patch: %w", len(ops), err)
		}
		ops = append(ops, op)
	}
}

func parsePatchOp(doc []byte) (Op, error) {
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
			op.Path, pathed = unquoteName(value), true
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

// Apply returns the canonical document that a patch makes of another. A removal
// of the root gives nil.
func Apply(doc, patch []byte) ([]byte, error) {
	ops, err := ParsePatch(patch)
	if err != nil {
		return nil, err
	}
	return ApplyOps(doc, ops)
}

// ApplyOps is Apply with a patch that was parsed before. The result may share
// the memory of doc or ops.
func ApplyOps(doc []byte, ops []Op) ([]byte, error) {
	for _, op := range ops {
		if op.Path == "" {
			doc = op.Value
			continue
		}
		var err error
		if doc, err = op.apply(doc); err != nil {
			return nil, fmt.Errorf("%s %s: %w", op.Op, op.Path, err)
		}
	}
	return doc, nil
}

// apply goes down to the object or array that the operation is about and
// splices it. An empty document stands for none.
func (o Op) apply(doc []byte) ([]byte, error) {
	at, rest, more := 0, o.Path[1:], true
	for depth := 0; ; depth++ {
		var token string
		token, rest, more = strings.Cut(rest, "/")
		token = unescapeToken(token)
		if depth >= maxDepth || at >= len(doc) || (doc[at] != '{' && doc[at] != '[') {
			return nil, fmt.Errorf("no such place: %q would be in neither an object nor an array", token)
		}
		var k child
		var ok bool
		var name []byte
		if doc[at] == '{' {
			name = appendString(nil, token)
			k, ok = find(doc, at, name)
		} else {
			var err error
			if k, ok, err = o.element(doc, at, token, !more); err != nil {
				return nil, err
			}
		}
		if !ok && (more || o.Op != "add") {
			return nil, fmt.Errorf("there is no %q", token)
		}
		if !more {
			if k.start < 1 || k.end >= len(doc) {
				return nil, errors.New("the document is not canonical JSON")
			}
			return o.splice(doc, doc[at] == '[', k, ok, name), nil
		}
		at = k.from
	}
}

// element finds an element of an array by its token. Adding may name the place
// after the last, also as "-".
func (o Op) element(doc []byte, at int, token string, last bool) (child, bool, error) {
	n, err := strconv.Atoi(token)
	adding := last && o.Op == "add"
	if token == "-" && adding {
		n, err = -1, nil
	} else if err != nil || strconv.Itoa(n) != token || n < 0 {
		return child{}, false, fmt.Errorf("%q is not the number of an element", token)
	}
	k, length, ok := element(doc, at, n)
	if !ok && n >= 0 && !(adding && n == length) {
		return child{}, false, fmt.Errorf("no element %d in an array of %d", n, length)
	}
	return k, ok, nil
}

// splice puts the value in, or takes it out: k is the child that the operation
// names, or where it is to be if it is not there. The name, as JSON, is that of
// a member.
func (o Op) splice(doc []byte, array bool, k child, there bool, name []byte) []byte {
	switch {
	case o.Op == "remove":
		start, end := k.start, k.end
		// One comma goes too: the one behind, or that before the last child.
		if doc[end] == ',' {
			end++
		} else if doc[start-1] == ',' {
			start--
		}
		return slices.Concat(doc[:start], doc[end:])
	case o.Op == "replace", there && !array:
		return slices.Concat(doc[:k.from], o.Value, doc[k.end:])
	}
	var before, after []byte
	if b := doc[k.start-1]; b != ',' && b != '{' && b != '[' {
		before = comma
	}
	if a := doc[k.start]; a != '}' && a != ']' {
		after = comma
	}
	if name != nil {
		name = append(name, ':')
	}
	return slices.Concat(doc[:k.start], before, name, o.Value, after, doc[k.start:])
}

var comma = []byte{','}

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
