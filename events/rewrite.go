package events

import (
	"bytes"
	"slices"
)

// rewriter writes a JSON document as Canonical wants it, without decoding it. Its
// methods say false where the document is not JSON, or is odd; then the decoder
// must say what is to be had of it.
type rewriter struct {
	checker        // reads
	out     []byte // what has been written
	members []span // of the objects that are being written, innermost last
	spare   []byte // for putting members in order
}

// span is where a member lies in what has been written.
type span struct{ start, name, end int }

func (r *rewriter) space() {
	for r.i < len(r.doc) {
		switch r.doc[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

// document writes the whole.
func (r *rewriter) document() bool {
	if !r.rewrite(0) {
		return false
	}
	r.space()
	return r.i == len(r.doc)
}

func (r *rewriter) rewrite(depth int) bool {
	r.space()
	start := r.i
	switch r.peek() {
	case '{':
		return depth < maxDepth && r.rewriteObject(depth+1)
	case '[':
		return depth < maxDepth && r.rewriteArray(depth+1)
	case '"':
		return r.rewriteString()
	case 't', 'f', 'n', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if !r.value(depth) {
			return false
		}
		r.out = append(r.out, r.doc[start:r.i]...)
		return true
	}
	return false
}

func (r *rewriter) rewriteArray(depth int) bool {
	r.i++
	r.out = append(r.out, '[')
	for first := true; ; first = false {
		r.space()
		if r.skip(']') {
			break
		}
		if !first {
			if !r.skip(',') {
				return false
			}
			r.out = append(r.out, ',')
		}
		if !r.rewrite(depth) {
			return false
		}
	}
	r.out = append(r.out, ']')
	return true
}

func (r *rewriter) rewriteObject(depth int) bool {
	r.i++
	r.out = append(r.out, '{')
	begin, mine := len(r.out), len(r.members)
	sorted := true
	for first := true; ; first = false {
		r.space()
		if r.skip('}') {
			break
		}
		if !first {
			if !r.skip(',') {
				return false
			}
			r.out = append(r.out, ',')
			r.space()
		}
		p := span{start: len(r.out)}
		if !r.rewriteString() {
			return false
		}
		p.name = len(r.out)
		r.space()
		if !r.skip(':') {
			return false
		}
		r.out = append(r.out, ':')
		if !r.rewrite(depth) {
			return false
		}
		p.end = len(r.out)
		if n := len(r.members); n > mine {
			last := r.members[n-1]
			sorted = sorted && compareNames(r.out[last.start:last.name], r.out[p.start:p.name]) < 0
		}
		r.members = append(r.members, p)
	}
	if !sorted {
		r.sort(begin, r.members[mine:])
	}
	r.members = r.members[:mine]
	r.out = append(r.out, '}')
	return true
}

// sort puts the members that lie behind begin in order. Of those with the same
// name the last stays.
func (r *rewriter) sort(begin int, members []span) {
	name := func(p span) []byte { return r.out[p.start:p.name] }
	slices.SortStableFunc(members, func(a, b span) int { return compareNames(name(a), name(b)) })
	r.spare = r.spare[:0]
	for i, p := range members {
		if i+1 < len(members) && compareNames(name(p), name(members[i+1])) == 0 {
			continue
		}
		if len(r.spare) > 0 {
			r.spare = append(r.spare, ',')
		}
		r.spare = append(r.spare, r.out[p.start:p.end]...)
	}
	r.out = append(r.out[:begin], r.spare...)
}

// rewriteString copies a string, or writes it anew if it is escaped in another
// way.
func (r *rewriter) rewriteString() bool {
	start := r.i
	if r.str() {
		r.out = append(r.out, r.doc[start:r.i]...)
		return true
	}
	if r.i = start; r.peek() != '"' {
		return false
	}
	end := skipString(r.doc, start)
	text := r.doc[start:end]
	if len(text) < 2 || text[len(text)-1] != '"' || bytes.ContainsFunc(text, isControl) {
		return false
	}
	if !validEscapes(text[1 : len(text)-1]) {
		return false
	}
	r.out = AppendString(r.out, unquoteJSON(text))
	r.i = end
	return true
}

func isControl(c rune) bool { return c < ' ' }

// validEscapes says whether each backslash between the quotes of a string begins
// an escape of JSON.
func validEscapes(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return true
		}
		text = text[i+1:]
		switch {
		case len(text) == 0:
			return false
		case text[0] == 'u':
			if len(text) < 5 || !allHex(text[1:5]) {
				return false
			}
		case bytes.IndexByte([]byte(`"\/bfnrt`), text[0]) < 0:
			return false
		}
		text = text[1:]
	}
}

func allHex(s []byte) bool {
	for _, c := range s {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}
