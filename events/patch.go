package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
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
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value,omitempty"`
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

// ParsePatch reads a patch, refusing operations that are not in use.
func ParsePatch(patch []byte) ([]Op, error) {
	var ops []Op
	dec := json.NewDecoder(bytes.NewReader(patch))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ops); err != nil {
		return nil, fmt.Errorf("not a JSON Patch: %w", err)
	}
	for i, op := range ops {
		switch {
		case op.Op != "add" && op.Op != "remove" && op.Op != "replace":
			return nil, fmt.Errorf("operation %d: %q is none of add, remove, replace", i, op.Op)
		case op.Op != "remove" && len(op.Value) == 0:
			return nil, fmt.Errorf("operation %d: %s %s has no value", i, op.Op, op.Path)
		case op.Path != "" && op.Path[0] != '/':
			return nil, fmt.Errorf("operation %d: path %q is not a JSON pointer", i, op.Path)
		}
	}
	return ops, nil
}

// AppendPatch appends the JSON Patch that holds the operations, in the encoding
// that Diff uses. The values must be canonical JSON.
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

// Canonical returns the one encoding of a JSON document that the log and all
// projections use: keys sorted by bytes, no white space, numbers as they were
// written, strings escaped no more than JSON demands.
func Canonical(doc []byte) ([]byte, error) {
	v, err := decode(doc)
	if err != nil {
		return nil, err
	}
	return encode(v)
}

// IsCanonical says whether a document is as Canonical would write it.
func IsCanonical(doc []byte) bool {
	c, err := Canonical(doc)
	return err == nil && bytes.Equal(c, doc)
}

// Diff returns the patch that turns one canonical document into another, and
// nil if they are equal. Operations come in the order of the paths; members of
// objects are compared by name and elements of arrays by position, save that
// elements added or removed at one place in an array are said to be so.
func Diff(before, after []byte) ([]byte, error) {
	if bytes.Equal(before, after) {
		return nil, nil
	}
	b, err := decode(before)
	if err != nil {
		return nil, err
	}
	a, err := decode(after)
	if err != nil {
		return nil, err
	}
	var ops []Op
	if err := diff("", b, a, &ops); err != nil {
		return nil, err
	}
	if len(ops) == 0 {
		return nil, nil
	}
	return AppendPatch(nil, ops), nil
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

// ApplyOps is Apply with a patch that was parsed before.
func ApplyOps(doc []byte, ops []Op) ([]byte, error) {
	root, err := decode(doc)
	if err != nil {
		return nil, err
	}
	for _, op := range ops {
		if op.Path == "" {
			if op.Op == "remove" {
				return nil, nil
			}
			if root, err = decode(op.Value); err != nil {
				return nil, err
			}
			continue
		}
		if root, err = apply(root, strings.Split(op.Path[1:], "/"), op); err != nil {
			return nil, fmt.Errorf("%s %s: %w", op.Op, op.Path, err)
		}
	}
	return encode(root)
}

func diff(path string, b, a any, ops *[]Op) error {
	if bm, ok := b.(map[string]any); ok {
		if am, ok := a.(map[string]any); ok {
			return diffObjects(path, bm, am, ops)
		}
	}
	if bs, ok := b.([]any); ok {
		if as, ok := a.([]any); ok {
			return diffArrays(path, bs, as, ops)
		}
	}
	if reflect.DeepEqual(a, b) {
		return nil
	}
	return add(ops, "replace", path, a)
}

func diffObjects(path string, b, a map[string]any, ops *[]Op) error {
	keys := slices.Collect(maps.Keys(b))
	for k := range a {
		if _, both := b[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		at := path + "/" + escapeToken(k)
		bv, inB := b[k]
		av, inA := a[k]
		var err error
		switch {
		case !inA:
			err = add(ops, "remove", at, nil)
		case !inB:
			err = add(ops, "add", at, av)
		default:
			err = diff(at, bv, av, ops)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// diffArrays keeps what is equal at both ends, so that one element put in or
// taken out is one operation.
func diffArrays(path string, b, a []any, ops *[]Op) error {
	head := 0
	for head < len(b) && head < len(a) && reflect.DeepEqual(b[head], a[head]) {
		head++
	}
	tail := 0
	if len(a) != len(b) {
		for tail < len(b)-head && tail < len(a)-head && reflect.DeepEqual(b[len(b)-1-tail], a[len(a)-1-tail]) {
			tail++
		}
	}
	b, a = b[head:len(b)-tail], a[head:len(a)-tail]
	at := func(i int) string { return path + "/" + strconv.Itoa(head+i) }
	both := min(len(a), len(b))
	for i := range both {
		if err := diff(at(i), b[i], a[i], ops); err != nil {
			return err
		}
	}
	for i := both; i < len(a); i++ {
		if err := add(ops, "add", at(i), a[i]); err != nil {
			return err
		}
	}
	for i := len(b) - 1; i >= both; i-- {
		if err := add(ops, "remove", at(i), nil); err != nil {
			return err
		}
	}
	return nil
}

func add(ops *[]Op, op, path string, value any) error {
	o := Op{Op: op, Path: path}
	if op != "remove" {
		var err error
		if o.Value, err = encode(value); err != nil {
			return err
		}
	}
	*ops = append(*ops, o)
	return nil
}

func apply(node any, path []string, op Op) (any, error) {
	token := unescapeToken(path[0])
	switch n := node.(type) {
	case map[string]any:
		return applyObject(n, token, path, op)
	case []any:
		return applyArray(n, token, path, op)
	}
	return nil, fmt.Errorf("no such place: %q is within neither an object nor an array", token)
}

func applyObject(n map[string]any, token string, path []string, op Op) (any, error) {
	child, ok := n[token]
	if !ok && (op.Op != "add" || len(path) > 1) {
		return nil, fmt.Errorf("no member %q", token)
	}
	if len(path) > 1 {
		child, err := apply(child, path[1:], op)
		n[token] = child
		return n, err
	}
	if op.Op == "remove" {
		delete(n, token)
		return n, nil
	}
	v, err := decode(op.Value)
	n[token] = v
	return n, err
}

func applyArray(n []any, token string, path []string, op Op) (any, error) {
	i, err := strconv.Atoi(token)
	if token == "-" && op.Op == "add" {
		i, err = len(n), nil
	}
	last := len(path) == 1
	if err != nil || i < 0 || i > len(n) || (i == len(n) && !(last && op.Op == "add")) {
		return nil, fmt.Errorf("no element %q in an array of %d", token, len(n))
	}
	if !last {
		child, err := apply(n[i], path[1:], op)
		n[i] = child
		return n, err
	}
	if op.Op == "remove" {
		return slices.Delete(n, i, i+1), nil
	}
	v, err := decode(op.Value)
	if err != nil {
		return nil, err
	}
	if op.Op == "replace" {
		n[i] = v
		return n, nil
	}
	return slices.Insert(n, i, v), nil
}

func decode(doc []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("not a JSON document: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("not a JSON document: something follows its end")
	}
	return v, nil
}

func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// appendString appends a JSON string, escaped no more than JSON demands. Bytes
// that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
		if short := strings.IndexByte("\"\\\b\f\n\r\t", c); short >= 0 {
			b = append(b, '\\', `"\bfnrt`[short])
		} else if c < ' ' {
			b = append(b, `\u00`...)
			b = append(b, digits[c>>4], digits[c&0xf])
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// escapeToken and unescapeToken are RFC 6901's.
func escapeToken(t string) string {
	return strings.ReplaceAll(strings.ReplaceAll(t, "~", "~0"), "/", "~1")
}

func unescapeToken(t string) string {
	return strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
}
