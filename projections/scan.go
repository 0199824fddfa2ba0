package projections

import "bytes"

// The functions here find their way in canonical JSON (events.Canonical)
// without decoding it: no white space, well formed. They return -1 for a
// document that is not.

// skipValue returns the index after the value that starts at i.
func skipValue(doc []byte, i int) int {
	if i < 0 || i >= len(doc) {
		return -1
	}
	switch doc[i] {
	case '"':
		return skipString(doc, i)
	case '{', '[':
		return skipNested(doc, i)
	}
	start := i
	for i < len(doc) && doc[i] != ',' && doc[i] != '}' && doc[i] != ']' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// skipString returns the index after the string that starts at i.
func skipString(doc []byte, i int) int {
	for i++; i < len(doc); {
		n := bytes.IndexByte(doc[i:], '"')
		if n < 0 {
			return -1
		}
		end := i + n
		slashes := 0
		for end-1-slashes >= i && doc[end-1-slashes] == '\\' {
			slashes++
		}
		i = end + 1
		if slashes%2 == 0 {
			return i
		}
	}
	return -1
}

// skipNested returns the index after the object or array that starts at i.
func skipNested(doc []byte, i int) int {
	depth := 0
	for i < len(doc) {
		switch doc[i] {
		case '"':
			if i = skipString(doc, i); i < 0 {
				return -1
			}
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
	return -1
}

// eachMember calls visit with the raw name (quotes included) and the value's
// bounds of each member of the object that starts at i, until it says false. It
// says whether the object was well formed as far as it was visited.
func eachMember(doc []byte, i int, visit func(name []byte, start, end int) bool) bool {
	if i < 0 || i >= len(doc) || doc[i] != '{' {
		return false
	}
	if i++; i < len(doc) && doc[i] == '}' {
		return true
	}
	for i < len(doc) && doc[i] == '"' {
		colon := skipString(doc, i)
		if colon < 0 || colon >= len(doc) || doc[colon] != ':' {
			return false
		}
		end := skipValue(doc, colon+1)
		if end < 0 || end >= len(doc) {
			return false
		}
		if !visit(doc[i:colon], colon+1, end) {
			return true
		}
		if doc[end] == '}' {
			return true
		}
		if doc[end] != ',' {
			return false
		}
		i = end + 1
	}
	return false
}

// member returns the value of a member of the object doc, or nil. The name must
// be one that JSON does not escape.
func member(doc []byte, name string) []byte {
	var found []byte
	eachMember(doc, 0, func(n []byte, start, end int) bool {
		if len(n) == len(name)+2 && string(n[1:len(n)-1]) == name {
			found = doc[start:end]
			return false
		}
		return true
	})
	return found
}

// eachElement calls visit with each element of the array doc.
func eachElement(doc []byte, visit func(element []byte)) {
	if len(doc) < 2 || doc[0] != '[' || doc[1] == ']' {
		return
	}
	for i := 1; i < len(doc); {
		end := skipValue(doc, i)
		if end < 0 {
			return
		}
		visit(doc[i:end])
		i = end + 1
	}
}

// plainString returns what a JSON string without escapes says, or "".
func plainString(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	return string(value[1 : len(value)-1])
}
