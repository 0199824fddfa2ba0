package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxDepth is how deep a document may nest: as deep as the API server reads.
const maxDepth = 10_000

// Canonical returns the one encoding of a JSON document that the log and all
// projections use: the members of objects sorted by the bytes of their names, no
// white space, numbers as they were written, strings in UTF-8 and escaped no
// more than JSON demands. Of members with the same name the last counts, and
// what is not UTF-8 becomes U+FFFD, as Go's decoder has it. The result shares no
// memory with doc.
//
// Two canonical documents mean the same if and only if their bytes are equal
// (but for numbers that are written differently), which is what Diff and Apply
// rest on: they work on the bytes and decode nothing.
func Canonical(doc []byte) ([]byte, error) {
	var space [48]span
	spare := spares.Get().(*[]byte)
	r := rewriter{checker: checker{doc: doc}, out: make([]byte, 0, len(doc)), members: space[:0], spare: *spare}
	done := r.document()
	if *spare = r.spare; cap(*spare) <= large {
		spares.Put(spare)
	}
	if done {
		return r.out, nil
	}
	return decoded(doc)
}

// spares are where members are put in order.
var spares = sync.Pool{New: func() any { return new([]byte) }}

// decoded is Canonical by way of Go's decoder.
func decoded(doc []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("not a JSON document: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("not a JSON document: something follows its end")
	}
	return appendValue(make([]byte, 0, len(doc)), v), nil
}

// IsCanonical says whether a document is as Canonical would write it.
func IsCanonical(doc []byte) bool {
	c := checker{doc: doc}
	return c.value(0) && c.i == len(doc)
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		if v {
			return append(b, "true"...)
		}
		return append(b, "false"...)
	case json.Number:
		return append(b, v...)
	case string:
		return AppendString(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, e)
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(AppendString(b, k), ':')
			b = appendValue(b, v[k])
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("a JSON decoder made a %T", v))
}

const (
	// escaped are the characters that have a short escape, and escapes are those
	// escapes, in the same order.
	escaped  = "\"\\\b\f\n\r\t"
	escapes  = `"\bfnrt`
	lowerHex = "0123456789abcdef"
)

// AppendString appends a JSON string as canonical JSON has it.
func AppendString(b []byte, s string) []byte {
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
		if c >= ' ' && c != '"' && c != '\\' {
			b = append(b, c)
		} else if short := strings.IndexByte(escaped, c); short >= 0 {
			b = append(b, '\\', escapes[short])
		} else {
			b = append(b, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&0xf])
		}
	}
	return append(b, '"')
}

// checker reads a document that ought to be canonical. Its methods say whether
// it is, and move i behind what they have read.
type checker struct {
	doc []byte
	i   int
}

func (c *checker) peek() byte {
	if c.i < len(c.doc) {
		return c.doc[c.i]
	}
	return 0
}

func (c *checker) skip(b byte) bool {
	if c.peek() != b {
		return false
	}
	c.i++
	return true
}

func (c *checker) value(depth int) bool {
	switch c.peek() {
	case '{':
		return depth < maxDepth && c.object(depth+1)
	case '[':
		return depth < maxDepth && c.array(depth+1)
	case '"':
		return c.str()
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	}
	return c.number()
}

func (c *checker) literal(word string) bool {
	if len(c.doc)-c.i < len(word) || string(c.doc[c.i:c.i+len(word)]) != word {
		return false
	}
	c.i += len(word)
	return true
}

func (c *checker) object(depth int) bool {
	c.i++
	if c.skip('}') {
		return true
	}
	var last []byte
	for {
		start := c.i
		if !c.str() {
			return false
		}
		name := c.doc[start:c.i]
		if last != nil && compareNames(last, name) >= 0 {
			return false
		}
		last = name
		if !c.skip(':') || !c.value(depth) {
			return false
		}
		if c.skip('}') {
			return true
		}
		if !c.skip(',') {
			return false
		}
	}
}

func (c *checker) array(depth int) bool {
	c.i++
	if c.skip(']') {
		return true
	}
	for {
		if !c.value(depth) {
			return false
		}
		if c.skip(']') {
			return true
		}
		if !c.skip(',') {
			return false
		}
	}
}

func (c *checker) str() bool {
	if !c.skip('"') {
		return false
	}
	for c.i = plainEnd(c.doc, c.i); c.i < len(c.doc); c.i = plainEnd(c.doc, c.i) {
		switch b := c.doc[c.i]; {
		case b == '"':
			c.i++
			return true
		case b == '\\':
			if !c.escape() {
				return false
			}
		case b < ' ':
			return false
		default:
			r, n := utf8.DecodeRune(c.doc[c.i:])
			if r == utf8.RuneError && n == 1 {
				return false
			}
			c.i += n
		}
	}
	return false
}

// escape reads an escape, which must be one that AppendString writes.
func (c *checker) escape() bool {
	rest := c.doc[c.i+1:]
	if len(rest) > 0 && strings.IndexByte(escapes, rest[0]) >= 0 {
		c.i += 2
		return true
	}
	if len(rest) < 5 || string(rest[:3]) != "u00" {
		return false
	}
	high, low := strings.IndexByte(lowerHex, rest[3]), strings.IndexByte(lowerHex, rest[4])
	if high < 0 || high > 1 || low < 0 || strings.IndexByte(escaped, byte(high<<4|low)) >= 0 {
		return false
	}
	c.i += 6
	return true
}

func (c *checker) number() bool {
	c.skip('-')
	if !c.skip('0') && !c.digits() {
		return false
	}
	if c.skip('.') && !c.digits() {
		return false
	}
	if c.skip('e') || c.skip('E') {
		_ = c.skip('+') || c.skip('-')
		return c.digits()
	}
	return true
}

func (c *checker) digits() bool {
	start := c.i
	for b := c.peek(); b >= '0' && b <= '9'; b = c.peek() {
		c.i++
	}
	return c.i > start
}
