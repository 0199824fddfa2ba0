package parse

import (
	"hash/maphash"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/reprise-run/reprise/events"
)

// Keeping returns a reader of objects that are kept, which share parts of these types: a
// part that was read lately from the same bytes is not read again. Nobody may change
// anything of what is read. See decision 0305.
func Keeping(types ...reflect.Type) *Reader {
	r := &Reader{keeps: true, known: map[reflect.Type]*parts{}}
	for _, t := range types {
		r.known[t] = new(parts)
	}
	return r
}

// texts are some that were read lately. There are few that differ: phases, reasons, the
// names of images. The others lie in memory one after the other, so that those of an object
// are together and not each an object to the garbage collector.
type texts struct {
	known [256]string
	room  []byte
}

// textRoom is how much memory is taken at once for texts. As long as one of them is held, it
// is all held.
const textRoom = 512

// clone copies a text.
func (t *texts) clone(s string) string {
	if len(t.room) < len(s) {
		t.room = make([]byte, textRoom)
	}
	n := copy(t.room, s)
	s = unsafe.String(unsafe.SliceData(t.room), n)
	t.room = t.room[n:]
	return s
}

// recent has the texts of readers that are not at work.
var recent = sync.Pool{New: func() any { return new(texts) }}

// longest is of how many bytes a text is that is looked for among those.
const longest = 64

var placing = maphash.MakeSeed()

// own is a text in memory of its own.
func (d document) own(s string) string {
	switch {
	case d.texts == nil || s == "":
		return s
	case len(s) > longest:
		if len(s) > textRoom/4 {
			return strings.Clone(s)
		}
		return d.texts.clone(s)
	}
	place := &d.texts.known[maphash.String(placing, s)%uint64(len(d.texts.known))]
	if *place != s {
		*place = d.texts.clone(s)
	}
	return *place
}

// few is how many numbers pointers in what is kept share, as do all to a bool.
const few = 1 << 10

var (
	truths = [...]bool{false, true}
	shorts = numbers[int32]()
	longs  = numbers[int64]()
)

func numbers[T int32 | int64]() (all [few]T) {
	for i := range all {
		all[i] = T(i)
	}
	return all
}

// parseTruth reads a pointer to a bool.
func parseTruth(d document, i int, at unsafe.Pointer) int {
	is := false
	end := parseBool(d, i, unsafe.Pointer(&is))
	switch {
	case d.null(i):
	case is:
		*(**bool)(at) = &truths[1]
	default:
		*(**bool)(at) = &truths[0]
	}
	return end
}

// parseShared reads a pointer to a number.
func parseShared[T int32 | int64](numbers *[few]T) parser {
	bits := 8 * int(unsafe.Sizeof(numbers[0]))
	return func(d document, i int, at unsafe.Pointer) int {
		n, end := parseNumber(d, i, bits)
		switch {
		case d.null(i):
		case 0 <= n && n < few:
			*(**T)(at) = &numbers[n]
		default:
			*(**T)(at) = new(T(n))
		}
		return end
	}
}

// maxAlike bounds how many parts of one type are remembered, and partSize what is
// taken for a part.
const (
	maxAlike = 1 << 11
	partSize = 4 << 10
)

// part is a value with the canonical JSON that it was read from.
type part struct {
	raw   string
	value reflect.Value
}

// parts are some of one type, in places by a hash. Where two want the same place the later
// one has it. So what is remembered depends on chance, but only memory depends on that.
type parts struct {
	all   [maxAlike]atomic.Pointer[part] // by all of the JSON
	newer [64]atomic.Pointer[part]       // by how it begins
}

// beginning is how much of the JSON of a part is how it begins.
const beginning = 64

// parseAlike remembers parts of a type by their JSON. Where a part begins as one that is
// remembered, and goes on as that, it ends as that, which need not be looked for.
func parseAlike(t reflect.Type, known *parts, parse parser) parser {
	return func(d document, i int, at unsafe.Pointer) int {
		if c := d.at(i); c != '{' && c != '[' {
			return parse(d, i, at)
		}
		rest, into := d.text[i:], reflect.NewAt(t, at).Elem()
		newer := &known.newer[maphash.String(placing, rest[:min(beginning, len(rest))])%uint64(len(known.newer))]
		if p := newer.Load(); p != nil && strings.HasPrefix(rest, p.raw) {
			into.Set(p.value)
			return i + len(p.raw)
		}
		end := events.ValueEnd(d.raw, i)
		if end-i > partSize {
			return parse(d, i, at)
		}
		raw := d.text[i:end]
		place := &known.all[maphash.String(placing, raw)%maxAlike]
		p := place.Load()
		if p == nil || p.raw != raw {
			if parse(d, i, at) != end {
				return unread
			}
			clip(into)
			p = &part{strings.Clone(raw), reflect.New(t).Elem()}
			p.value.Set(into)
			place.Store(p)
		}
		newer.Store(p)
		into.Set(p.value)
		return end
	}
}

// clip leaves no room behind the elements of the lists in a value: what is appended to
// one of them, by whoever copied it, must not come to lie where others append too. Parts
// of it may be shared already, and read just now: they have no room, and are not written to.
func clip(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clip(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				clip(f)
			}
		}
	case reflect.Slice:
		if v.Cap() > v.Len() {
			v.SetCap(v.Len())
		}
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer || k == reflect.Slice {
			for i := range v.Len() {
				clip(v.Index(i))
			}
		}
	}
}
