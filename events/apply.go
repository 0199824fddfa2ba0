package events

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

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
// the memory of doc.
func ApplyOps(doc []byte, ops []Op) ([]byte, error) {
	var o Outline
	return ApplyOutlined(doc, &o, ops)
}

// ApplyOutlined is ApplyOps with an outline of doc, which it makes that of the
// result.
func ApplyOutlined(doc []byte, o *Outline, ops []Op) ([]byte, error) {
	if len(ops) == 0 {
		return doc, nil
	}
	e := workspaces.Get().(*editor)
	defer e.release()
	e.doc, e.outline = append(e.doc[:0], doc...), *o
	for i := range ops {
		if err := e.apply(&ops[i]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", ops[i].Op, ops[i].Path, err)
		}
	}
	*o = e.outline
	if len(e.doc) == 0 {
		return nil, nil
	}
	return bytes.Clone(e.doc), nil
}

// ApplyInPlace is ApplyOutlined that changes the document itself, which may move.
// After an error it is of no more use.
func ApplyInPlace(doc []byte, o *Outline, ops []Op) ([]byte, error) {
	e := workspaces.Get().(*editor)
	own := e.doc
	e.doc, e.outline = doc, *o
	defer func() {
		e.doc = own
		e.release()
	}()
	for i := range ops {
		if err := e.apply(&ops[i]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", ops[i].Op, ops[i].Path, err)
		}
	}
	*o = e.outline
	return e.doc, nil
}

// editor is a document that is being changed in place. An empty one stands for
// none.
//
// The operations of a patch mostly touch one part of a document, so the editor
// remembers the objects and arrays that it went through to the last place: what is
// changed in the innermost of them moves the beginning of none.
type editor struct {
	doc     []byte
	outline Outline
	path    string  // of the last operation
	way     []place // from the root to where that was
	last    spot
}

// spot is where an operation has changed a child of an object or array: what lies
// before it there need not be looked at for a later child.
type spot struct {
	in, at int    // where the object or array begins, 0 for none, and the child
	token  string // of the child; for one of an array that is index
	index  int
}

// place is an object or array on the way along a path.
type place struct {
	path int // how much of the path leads there, with the slash behind it
	at   int // where it begins
}

// workspaces are editors that are not in use: to make a new document of 4 kB for
// each operation would cost more than to find the place.
var workspaces = sync.Pool{New: func() any { return new(editor) }}

// large documents are not kept.
const large = 256 << 10

func (e *editor) release() {
	if cap(e.doc) <= large {
		*e = editor{doc: e.doc[:0], way: e.way[:0]}
		workspaces.Put(e)
	}
}

// apply goes down to the object or array that the operation is about and splices
// it.
func (e *editor) apply(o *Op) error {
	if o.Path == "" {
		e.doc, e.outline, e.way, e.last = append(e.doc[:0], o.Value...), Outline{}, e.way[:0], spot{}
		return nil
	}
	at, rest, depth := e.resume(o.Path)
	var space [64]byte // for the name, which is short
	for ; ; depth++ {
		token, below, more := strings.Cut(rest, "/")
		token = unescapeToken(token)
		if depth >= maxDepth || at >= len(e.doc) || (e.doc[at] != '{' && e.doc[at] != '[') {
			return fmt.Errorf("no such place: %q would be in neither an object nor an array", token)
		}
		var k child
		var ok bool
		var name []byte
		index := -1
		if e.doc[at] == '{' {
			name = AppendString(space[:0], token)
			k, ok = e.find(at, token, name)
		} else {
			var err error
			if k, index, ok, err = e.element(o, at, token, !more); err != nil {
				return err
			}
		}
		if !ok && (more || o.Op != "add") {
			return fmt.Errorf("there is no %q", token)
		}
		if !more {
			if k.start < 1 || k.end >= len(e.doc) {
				return errors.New("the document is not canonical JSON")
			}
			length := len(e.doc)
			e.change(o, e.doc[at] == '[', k, ok, name)
			e.last = spot{}
			if o.Op != "remove" && (name != nil || index >= 0) {
				e.last = spot{at, k.start, token, index}
			}
			if at == 0 {
				e.outline = Outline{}
			} else {
				e.outline.moved(k.start, len(e.doc)-length)
			}
			return nil
		}
		at, rest = k.from, below
		e.way = append(e.way, place{len(o.Path) - len(below), at})
	}
}

// find is find, by the outline in the root.
func (e *editor) find(at int, token string, name []byte) (child, bool) {
	if at != 0 {
		all := childrenOf(e.doc, at)
		if at == e.last.in && e.last.token <= token {
			all.i = e.last.at
		}
		return all.find(name)
	}
	if e.outline.n == 0 {
		if e.outline = outline(e.doc); e.outline.n == 0 {
			return find(e.doc, at, name)
		}
	}
	return e.outline.find(e.doc, name)
}

// resume returns the innermost object or array, of those on the way to the last
// place, that is on the way along a path too, and the path from there.
func (e *editor) resume(path string) (at int, rest string, depth int) {
	same := 0
	for same < len(path) && same < len(e.path) && path[same] == e.path[same] {
		same++
	}
	depth = len(e.way)
	for depth > 0 && e.way[depth-1].path > same {
		depth--
	}
	e.way, e.path = e.way[:depth], path
	if depth == 0 {
		return 0, path[1:], 0
	}
	last := e.way[depth-1]
	return last.at, path[last.path:], depth
}

// element finds an element of an array by its token, and says the how manyth it is.
// Adding may name the place after the last, also as "-", which is -1.
func (e *editor) element(o *Op, at int, token string, last bool) (k child, n int, ok bool, err error) {
	n, err = strconv.Atoi(token)
	adding := last && o.Op == "add"
	if token == "-" && adding {
		n, err = -1, nil
	} else if err != nil || strconv.Itoa(n) != token || n < 0 {
		return k, 0, false, fmt.Errorf("%q is not the number of an element", token)
	}
	all, before := childrenOf(e.doc, at), 0
	if at != 0 && at == e.last.in && e.last.index <= n {
		all.i, before = e.last.at, e.last.index
	}
	k, length, ok := all.element(n, before)
	if !ok && n >= 0 && !(adding && n == length) {
		return k, 0, false, fmt.Errorf("no element %d in an array of %d", n, length)
	}
	return k, n, ok, nil
}

// change puts the value in, or takes it out: k is the child that the operation
// names, or where it is to be if it is not there. The name, as JSON, is that of
// a member.
func (e *editor) change(o *Op, array bool, k child, there bool, name []byte) {
	switch {
	case o.Op == "remove":
		start, end := k.start, k.end
		// One comma goes too: the one behind, or that before the last child.
		if e.doc[end] == ',' {
			end++
		} else if e.doc[start-1] == ',' {
			start--
		}
		e.splice(start, end)
		return
	case o.Op == "replace", there && !array:
		e.splice(k.from, k.end, o.Value)
		return
	}
	var before, colon, after []byte
	if b := e.doc[k.start-1]; b != ',' && b != '{' && b != '[' {
		before = comma
	}
	if a := e.doc[k.start]; a != '}' && a != ']' {
		after = comma
	}
	if name != nil {
		colon = colonBytes
	}
	e.splice(k.start, k.start, before, name, colon, o.Value, after)
}

var comma, colonBytes = []byte{','}, []byte{':'}

// splice puts parts in the place of what lies from start to end.
func (e *editor) splice(start, end int, parts ...[]byte) {
	grows := start - end
	for _, p := range parts {
		grows += len(p)
	}
	length := len(e.doc)
	if grows > 0 {
		e.doc = slices.Grow(e.doc, grows)
	}
	e.doc = e.doc[:length+grows]
	copy(e.doc[end+grows:], e.doc[end:length:length])
	for _, p := range parts {
		start += copy(e.doc[start:], p)
	}
}
