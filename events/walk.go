package events

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"iter"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// The functions here find their way in the bytes of canonical documents. They
// trust them to be canonical, but never read beyond their ends.

// skipValue returns the index after the value that begins at i, or len(doc).
func skipValue(doc []byte, i int) int {
	if i >= len(doc) {
		return len(doc)
	}
	switch doc[i] {
	case '"':
		return skipString(doc, i)
	case '{', '[':
		return skipNested(doc, i)
	}
	for i < len(doc) && doc[i] != ',' && doc[i] != '}' && doc[i] != ']' {
		i++
	}
	return i
}

// ValueEnd returns the index after the value, in a canonical document, that begins at i,
// or the document's length.
func ValueEnd(doc []byte, i int) int { return skipValue(doc, i) }

func skipString(doc []byte, i int) int {
	for i = textEnd(doc, i+1); i < len(doc); i = textEnd(doc, i+2) {
		if doc[i] == '"' {
			return i + 1
		}
	}
	return len(doc)
}

// The bytes of a word, for looking at eight bytes of a document at once.
const (
	ones        = 0x0101010101010101
	tops        = 0x80 * ones
	quotes      = '"' * ones
	backslashes = '\\' * ones
	blanks      = ' ' * ones
)

// zeros has the top bit of the lowest byte of w that is zero, and perhaps of some
// above it.
func zeros(w uint64) uint64 { return (w - ones) &^ w & tops }

// textEnd returns the index, from i on, of the first byte that is a quote or a
// backslash, or at least len(doc).
func textEnd(doc []byte, i int) int {
	for ; i+8 <= len(doc); i += 8 {
		w := binary.LittleEndian.Uint64(doc[i:])
		if found := zeros(w^quotes) | zeros(w^backslashes); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(doc) && doc[i] != '"' && doc[i] != '\\' {
		i++
	}
	return i
}

// plainEnd is textEnd for who must look at control characters and at what is not
// ASCII as well.
func plainEnd(doc []byte, i int) int {
	for ; i+8 <= len(doc); i += 8 {
		w := binary.LittleEndian.Uint64(doc[i:])
		if found := zeros(w^quotes) | zeros(w^backslashes) | (w-blanks)&^w&tops | w&tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(doc) && doc[i] != '"' && doc[i] != '\\' && doc[i] >= ' ' && doc[i] < utf8.RuneSelf {
		i++
	}
	return i
}

func skipNested(doc []byte, i int) int {
	for depth := 0; i < len(doc); {
		switch doc[i] {
		case '"':
			i = skipString(doc, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return len(doc)
}

// child is a member of an object or an element of an array, by its place in the
// document that holds it.
type child struct {
	name             []byte // the member's, as JSON
	start, from, end int    // the whole begins at start, its value at from
}

// children walks the children of one object or array.
type children struct {
	doc   []byte
	i     int
	named bool
}

// childrenOf begins before the first child of the object or array at i.
func childrenOf(doc []byte, i int) children {
	return children{doc: doc, i: i + 1, named: doc[i] == '{'}
}

// next returns the next child, or says false after the last.
func (c *children) next() (child, bool) {
	if c.i < len(c.doc) && c.doc[c.i] == ',' {
		c.i++
	}
	if c.i >= len(c.doc) || c.doc[c.i] == '}' || c.doc[c.i] == ']' {
		return child{}, false
	}
	k := child{start: c.i, from: c.i}
	if c.named {
		end := skipString(c.doc, c.i)
		k.name, k.from = c.doc[c.i:end], end+1
	}
	k.end = skipValue(c.doc, k.from)
	k.from = min(k.from, k.end)
	c.i = k.end
	return k, true
}

// find returns the member of the object at i that has the name, as JSON. It says
// false if there is none, and then the child is where it would be: its start and
// end are the place to put it in.
func find(doc []byte, i int, name []byte) (child, bool) {
	all := childrenOf(doc, i)
	return all.find(name)
}

// find is find among the children that follow.
func (c *children) find(name []byte) (child, bool) {
	for {
		k, ok := c.next()
		if !ok {
			return child{start: c.i, end: c.i}, false
		}
		switch d := compareNames(k.name, name); {
		case d == 0:
			return k, true
		case d > 0:
			return child{start: k.start, end: k.start}, false
		}
	}
}

// enter returns where the value begins of the member that has the name, without looking
// where it ends.
func (c *children) enter(name []byte) (from int, ok bool) {
	for {
		if c.i < len(c.doc) && c.doc[c.i] == ',' {
			c.i++
		}
		if c.i >= len(c.doc) || c.doc[c.i] == '}' || !c.named {
			return c.i, false
		}
		end := skipString(c.doc, c.i)
		switch d := compareNames(c.doc[c.i:end], name); {
		case d == 0:
			return min(end+1, len(c.doc)), true
		case d > 0:
			return c.i, false
		}
		c.i = skipValue(c.doc, end+1)
	}
}

// element returns the n-th of all children, which are elements of an array and of
// which some were before. It says false if there are fewer, and how many; the child is
// then at the array's end.
func (c *children) element(n, before int) (k child, length int, ok bool) {
	for length = before; ; length++ {
		k, ok := c.next()
		if !ok {
			return child{start: c.i, end: c.i}, length, false
		}
		if length == n {
			return k, length + 1, true
		}
	}
}

// compareNames orders the names of members, given as JSON, by the bytes that
// they stand for.
func compareNames(a, b []byte) int {
	if len(a) > 2 && len(b) > 2 && a[1] != b[1] && a[1] != '\\' && b[1] != '\\' {
		return int(a[1]) - int(b[1])
	}
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		// Without the closing quote, which would sort among the letters.
		return bytes.Compare(a[:max(len(a)-1, 0)], b[:max(len(b)-1, 0)])
	}
	return strings.Compare(unquoteJSON(a), unquoteJSON(b))
}

func unquoteJSON(s []byte) string {
	var text string
	// A copy, so that what is compared need not be on the heap.
	if json.Unmarshal(bytes.Clone(s), &text) != nil {
		return ""
	}
	return text
}

// Lookup returns the value of a member within members of a canonical document,
// as canonical JSON, or nil: Lookup(pod, "spec", "nodeName"). It decodes nothing.
func Lookup(doc []byte, names ...string) []byte {
	from, end, ok := locate(doc, names)
	if !ok {
		return nil
	}
	return doc[from:end]
}

// Around returns what lies before and behind the value that Lookup returns. It
// says false if there is none.
func Around(doc []byte, names ...string) (before, behind []byte, ok bool) {
	from, end, ok := locate(doc, names)
	if !ok {
		return nil, nil, false
	}
	return doc[:from:from], doc[end:], true
}

// locate finds the place of a member's value.
func locate(doc []byte, names []string) (from, end int, ok bool) {
	i, end := 0, len(doc)
	var space [64]byte // for a name, which is short
	for n, name := range names {
		if i >= len(doc) || doc[i] != '{' {
			return 0, 0, false
		}
		all := childrenOf(doc, i)
		if n < len(names)-1 {
			if i, ok = all.enter(AppendString(space[:0], name)); !ok {
				return 0, 0, false
			}
			continue
		}
		k, ok := all.find(AppendString(space[:0], name))
		if !ok {
			return 0, 0, false
		}
		i, end = k.from, k.end
	}
	return i, end, true
}

// Members yields the members of a canonical JSON object, in order, and nothing for
// another value: each name as JSON, and its value. Both share doc's memory.
func Members(doc []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if len(doc) == 0 || doc[0] != '{' {
			return
		}
		for all := childrenOf(doc, 0); ; {
			k, ok := all.next()
			if !ok || !yield(k.name, doc[k.from:k.end]) {
				return
			}
		}
	}
}

// Elements returns the elements of a canonical JSON array, which share its memory,
// and none of another value.
func Elements(doc []byte) [][]byte {
	if len(doc) == 0 || doc[0] != '[' {
		return nil
	}
	return elements(doc)
}

// Text returns what a JSON string says, and false for another value.
func Text(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	return unquoteName(value), true
}
