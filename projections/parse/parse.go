// Package parse reads canonical JSON, as what is stored is, into the Go types of the
// Kubernetes API. It takes a half of the time of a reader that is ready for any JSON and
// any type: it goes through the members of an object and those of its type side by side,
// both in the order of their names. What is unusual it does not read, and says so. It is
// right where it says that it has read, and nothing else. projections and agents/api/quick
// call it, and read by other means what it leaves.
package parse

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	stdjson "encoding/json"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// Reader reads into types of which it makes parsers as they come.
type Reader struct {
	keeps   bool                    // what is read is kept
	known   map[reflect.Type]*parts // of the types that are shared, whatever they are parts of
	parsers sync.Map                // of reflect.Type to parser
}

// Brief reads objects that are not kept, of documents that nobody changes: their texts
// share the memory of the document.
var Brief = new(Reader)

// Read reads a document into the zero value that into points to, and says whether it
// could. If not, that is of no use.
func (r *Reader) Read(raw []byte, into any) bool {
	d := document{raw: raw, text: unsafe.String(unsafe.SliceData(raw), len(raw))}
	if r.keeps {
		d.texts = recent.Get().(*texts)
		defer recent.Put(d.texts)
	}
	v := reflect.ValueOf(into)
	end := r.parser(v.Type().Elem())(d, 0, v.UnsafePointer())
	return end == len(raw) && end > 0
}

// document is canonical JSON, twice: the same memory.
type document struct {
	raw   []byte
	text  string
	texts *texts // nil if those of the document may be kept
}

// at is the byte at i, 0 behind the end.
func (d document) at(i int) byte {
	if i < len(d.text) {
		return d.text[i]
	}
	return 0
}

// null says whether the value at i is none.
func (d document) null(i int) bool { return strings.HasPrefix(d.text[min(i, len(d.text)):], "null") }

// What is canonical needs not be looked through for these again.
var canonical = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// unread stands for the end of a value that is left to others.
const unread = -1

// parser reads the value that begins at i into zeroed memory, and returns where it ends.
type parser func(d document, i int, at unsafe.Pointer) int

func (r *Reader) parser(t reflect.Type) parser {
	if known, is := r.parsers.Load(t); is {
		return known.(parser)
	}
	made, _ := r.parsers.LoadOrStore(t, r.parserIn(t, map[reflect.Type]*parser{}))
	return made.(parser)
}

var (
	unmarshaler     = reflect.TypeFor[stdjson.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()
	fromUnmarshaler = reflect.TypeFor[json.UnmarshalerFrom]()
)

// ownReader says whether values of a type read themselves.
func ownReader(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(unmarshaler) || p.Implements(textUnmarshaler) || p.Implements(fromUnmarshaler)
}

// parserIn makes the parser of a type that is a part of those that are being made, of one
// of which it may be a part itself.
func (r *Reader) parserIn(t reflect.Type, making map[reflect.Type]*parser) parser {
	if at := making[t]; at != nil {
		return func(d document, i int, p unsafe.Pointer) int { return (*at)(d, i, p) }
	}
	at := new(parser)
	making[t] = at
	*at = r.parserFor(t, making)
	if known := r.known[t]; known != nil {
		*at = parseAlike(t, known, *at)
	}
	return *at
}

func (r *Reader) parserFor(t reflect.Type, making map[reflect.Type]*parser) parser {
	switch {
	case t == reflect.TypeFor[metav1.Time]():
		return parseTime
	case t == reflect.TypeFor[v1.ResourceList]():
		return parseResources
	case r.keeps && t == reflect.TypeFor[*bool]():
		return parseTruth
	case r.keeps && t == reflect.TypeFor[*int32]():
		return parseShared(&shorts)
	case r.keeps && t == reflect.TypeFor[*int64]():
		return parseShared(&longs)
	case t.Kind() == reflect.Pointer && !t.Implements(fromUnmarshaler):
		return parsePointer(t.Elem(), r.parserIn(t.Elem(), making))
	case reflect.PointerTo(t).Implements(unmarshaler) && !reflect.PointerTo(t).Implements(fromUnmarshaler):
		return parseOwn(t)
	case ownReader(t):
		return parseSlowly(t)
	}
	switch t.Kind() {
	case reflect.String:
		return parseText
	case reflect.Bool:
		return parseBool
	case reflect.Int32:
		return func(d document, i int, at unsafe.Pointer) int {
			n, end := parseNumber(d, i, 32)
			*(*int32)(at) = int32(n)
			return end
		}
	case reflect.Int64:
		return func(d document, i int, at unsafe.Pointer) int {
			n, end := parseNumber(d, i, 64)
			*(*int64)(at) = n
			return end
		}
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return parseSlice(t, r.parserIn(t.Elem(), making))
		}
	case reflect.Map:
		if k, v := t.Key(), t.Elem(); k.Kind() == reflect.String && v.Kind() == reflect.String && !ownReader(k) && !ownReader(v) {
			return parseTexts
		}
	case reflect.Struct:
		if fields, plain := Fields(t); plain {
			return parseStruct(r.members(fields, making))
		}
	}
	return parseSlowly(t)
}

// parseSlowly has another reader do it.
func parseSlowly(t reflect.Type) parser {
	return func(d document, i int, at unsafe.Pointer) int {
		end := events.ValueEnd(d.raw, i)
		if json.Unmarshal(d.raw[min(i, end):end], reflect.NewAt(t, at).Interface(), canonical) != nil {
			return unread
		}
		return end
	}
}

// parseOwn lets a value read itself.
func parseOwn(t reflect.Type) parser {
	return func(d document, i int, at unsafe.Pointer) int {
		end := events.ValueEnd(d.raw, i)
		if i >= end || reflect.NewAt(t, at).Interface().(stdjson.Unmarshaler).UnmarshalJSON(d.raw[i:end:end]) != nil {
			return unread
		}
		return end
	}
}

// textAt returns the text at i, which may lie in the document, and where it ends.
func textAt(d document, i int) (s string, end int) {
	if d.at(i) != '"' {
		return "", unread
	}
	n := strings.IndexByte(d.text[i+1:], '"')
	if n < 0 {
		return "", unread
	}
	s = d.text[i+1 : i+1+n]
	end = i + n + 2
	if strings.IndexByte(s, '\\') >= 0 {
		end = events.ValueEnd(d.raw, i)
		plain, err := jsontext.AppendUnquote(nil, d.raw[i:end])
		if err != nil {
			return "", unread
		}
		return string(plain), end
	}
	if !utf8.ValidString(s) {
		return "", unread
	}
	return s, end
}

func parseText(d document, i int, at unsafe.Pointer) int {
	s, end := textAt(d, i)
	if end == unread && d.null(i) {
		return i + len("null")
	}
	*(*string)(at) = d.own(s)
	return end
}

func parseBool(d document, i int, at unsafe.Pointer) int {
	switch rest := d.text[min(i, len(d.text)):]; {
	case strings.HasPrefix(rest, "true"):
		*(*bool)(at) = true
		return i + len("true")
	case strings.HasPrefix(rest, "false"):
		return i + len("false")
	case d.null(i):
		return i + len("null")
	}
	return unread
}

func parseNumber(d document, i, bits int) (n int64, end int) {
	if d.null(i) {
		return 0, i + len("null")
	}
	for end = i; d.at(end) == '-' || d.at(end) >= '0' && d.at(end) <= '9'; end++ {
	}
	n, err := strconv.ParseInt(d.text[min(i, len(d.text)):max(end, min(i, len(d.text)))], 10, bits)
	if err != nil {
		return 0, unread
	}
	return n, end
}

func parseTime(d document, i int, at unsafe.Pointer) int {
	if d.null(i) {
		return i + len("null")
	}
	s, end := textAt(d, i)
	if end == unread {
		return unread
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return unread
	}
	((*metav1.Time)(at)).Time = t.Local()
	return end
}

func parsePointer(t reflect.Type, item parser) parser {
	return func(d document, i int, at unsafe.Pointer) int {
		if d.null(i) {
			return i + len("null")
		}
		p := reflect.New(t).UnsafePointer()
		*(*unsafe.Pointer)(at) = p
		return item(d, i, p)
	}
}

// children counts those of the object or array at i, and says whether it ends.
func children(d document, i int) (n int, ends bool) {
	opening := d.at(i)
	for i++; ; i++ {
		switch c := d.at(i); {
		case c == opening+2: // as it is in ASCII
			return n, true
		case opening == '{':
			i = events.ValueEnd(d.raw, i) + 1
		}
		i = events.ValueEnd(d.raw, i)
		n++
		if c := d.at(i); c == opening+2 {
			return n, true
		} else if c != ',' {
			return n, false
		}
	}
}

func parseSlice(t reflect.Type, item parser) parser {
	size := t.Elem().Size()
	return func(d document, i int, at unsafe.Pointer) int {
		if d.null(i) {
			return i + len("null")
		}
		if d.at(i) != '[' {
			return unread
		}
		n, ends := children(d, i)
		if !ends {
			return unread
		}
		made := reflect.MakeSlice(t, n, n)
		reflect.NewAt(t, at).Elem().Set(made)
		i++ // behind the bracket, and later behind commas
		for k := range n {
			if i = item(d, i, unsafe.Add(made.UnsafePointer(), uintptr(k)*size)); i == unread {
				return unread
			}
			if c := d.at(i); c != ',' && c != ']' {
				return unread
			}
			i++
		}
		if n == 0 {
			i++
		}
		return i
	}
}

// eachMember calls member with each name and where its value begins, and returns
// where that ends.
func eachMember(d document, i int, member func(name string, i int) int) (end int) {
	if d.at(i) != '{' {
		return unread
	}
	if d.at(i+1) == '}' {
		return i + 2
	}
	for before, first := "", true; ; first = false {
		name, colon := textAt(d, i+1)
		if colon == unread || d.at(colon) != ':' || !first && name <= before {
			return unread
		}
		before = name
		if i = member(name, colon+1); i == unread {
			return unread
		}
		switch d.at(i) {
		case '}':
			return i + 1
		case ',':
		default:
			return unread
		}
	}
}

// parseTexts reads a map of texts to texts.
func parseTexts(d document, i int, at unsafe.Pointer) int {
	if d.null(i) {
		return i + len("null")
	}
	if d.at(i) != '{' {
		return unread
	}
	n, _ := children(d, i)
	m := make(map[string]string, n)
	*(*map[string]string)(at) = m
	return eachMember(d, i, func(name string, i int) int {
		s, end := textAt(d, i)
		if end == unread && d.null(i) {
			end = i + len("null")
		}
		m[d.own(name)] = d.own(s)
		return end
	})
}

func parseResources(d document, i int, at unsafe.Pointer) int {
	if d.null(i) {
		return i + len("null")
	}
	m := v1.ResourceList{}
	*(*v1.ResourceList)(at) = m
	return eachMember(d, i, func(name string, i int) int {
		var q resource.Quantity
		end := events.ValueEnd(d.raw, i)
		if i >= end || q.UnmarshalJSON(d.raw[i:end]) != nil {
			return unread
		}
		m[v1.ResourceName(d.own(name))] = q
		return end
	})
}

// member is a field of a struct to be read.
type member struct {
	name   string
	offset uintptr
	parse  parser
}

// members are the fields in the order of their names.
func (r *Reader) members(fields []Field, making map[reflect.Type]*parser) (all []member) {
	for _, f := range fields {
		all = append(all, member{f.Name, f.Offset, r.parserIn(f.Type, making)})
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return all
}

func parseStruct(fields []member) parser {
	return func(d document, i int, at unsafe.Pointer) int {
		if d.null(i) {
			return i + len("null")
		}
		next := 0
		return eachMember(d, i, func(name string, i int) int {
			for next < len(fields) && fields[next].name < name {
				next++
			}
			if next == len(fields) || fields[next].name != name {
				return events.ValueEnd(d.raw, i) // upstream does not know it either
			}
			return fields[next].parse(d, i, unsafe.Add(at, fields[next].offset))
		})
	}
}
