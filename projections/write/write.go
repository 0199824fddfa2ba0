// Package write writes objects of the Kubernetes API as JSON, in a fifth of the time that
// encoding/json takes, for what there is to be asked about a type is asked once. What is
// unusual in a type is left to encoding/json itself.
package write

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"hash/maphash"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// Append appends what encoding/json makes of an object, or of one that o points to, which
// is what upstream answers with.
func Append(b []byte, o any) ([]byte, error) { return usual.append(b, o) }

// Canonical appends the canonical JSON of an object, or of one that o points to: what
// events.Canonical makes of what Append appends.
func Canonical(b []byte, o any) ([]byte, error) { return canonical.append(b, o) }

// form is how JSON is written.
type form struct {
	canonical bool
	made      sync.Map // appenders, by type
}

var usual, canonical = &form{}, &form{canonical: true}

// appender appends the JSON of a value of one type, which lies at a place.
type appender func(b []byte, at unsafe.Pointer) ([]byte, error)

func (f *form) append(b []byte, o any) ([]byte, error) {
	v := reflect.ValueOf(o)
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	if v.Kind() != reflect.Pointer || v.IsNil() {
		place := reflect.New(v.Type())
		place.Elem().Set(v)
		v = place
	}
	return f.appenderOf(v.Type().Elem())(b, v.UnsafePointer())
}

func (f *form) appenderOf(t reflect.Type) appender {
	if known, is := f.made.Load(t); is {
		return known.(appender)
	}
	m := maker{f, map[reflect.Type]*appender{}}
	made := m.appender(t)
	f.made.Store(t, made)
	return made
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// own says whether values of a type, wherever they lie, say themselves how they read.
func own(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(marshaler) || p.Implements(textMarshaler)
}

// maker makes the appender of a type, and of its parts, of one of which it may be a part
// itself.
type maker struct {
	*form
	making map[reflect.Type]*appender
}

func (m maker) appender(t reflect.Type) appender {
	if at := m.making[t]; at != nil {
		return func(b []byte, p unsafe.Pointer) ([]byte, error) { return (*at)(b, p) }
	}
	at := new(appender)
	m.making[t] = at
	*at = m.appenderFor(t)
	return *at
}

func (m maker) appenderFor(t reflect.Type) appender {
	switch {
	case t == reflect.TypeFor[metav1.Time]():
		return appendTime
	case t == reflect.TypeFor[metav1.FieldsV1]() && !m.canonical:
		return appendFields
	case t.Kind() == reflect.Pointer:
		return appendPointer(m.appender(t.Elem()))
	case reflect.PointerTo(t).Implements(marshaler) && t.Kind() != reflect.Interface:
		return m.appendOwn(t)
	case own(t):
		return m.appendSlowly(t)
	}
	switch t.Kind() {
	case reflect.String:
		return func(b []byte, at unsafe.Pointer) ([]byte, error) { return m.appendString(b, *(*string)(at)) }
	case reflect.Bool:
		return func(b []byte, at unsafe.Pointer) ([]byte, error) { return strconv.AppendBool(b, *(*bool)(at)), nil }
	case reflect.Int32:
		return func(b []byte, at unsafe.Pointer) ([]byte, error) {
			return strconv.AppendInt(b, int64(*(*int32)(at)), 10), nil
		}
	case reflect.Int64:
		return func(b []byte, at unsafe.Pointer) ([]byte, error) {
			return strconv.AppendInt(b, *(*int64)(at), 10), nil
		}
	case reflect.Slice:
		return m.appendSlice(t)
	case reflect.Map:
		if k, v := t.Key(), t.Elem(); k.Kind() == reflect.String && v.Kind() == reflect.String && !own(k) && !own(v) {
			return m.appendTexts(t)
		}
	case reflect.Struct:
		if members, plain := m.members(t); plain {
			return appendStruct(members)
		}
	}
	return m.appendSlowly(t)
}

// appendSlowly has encoding/json do it.
func (f *form) appendSlowly(t reflect.Type) appender {
	return func(b []byte, at unsafe.Pointer) ([]byte, error) {
		raw, err := json.Marshal(reflect.NewAt(t, at).Interface())
		if err == nil && f.canonical {
			raw, err = events.Canonical(raw)
		}
		return append(b, raw...), err
	}
}

// appendOwn asks a value how it reads, and writes that as it is to be written.
func (f *form) appendOwn(t reflect.Type) appender {
	return func(b []byte, at unsafe.Pointer) ([]byte, error) {
		raw, err := reflect.NewAt(t, at).Interface().(json.Marshaler).MarshalJSON()
		if err != nil {
			return b, err
		}
		if n := len(raw); n > 1 && raw[0] == '"' && raw[n-1] == '"' && plain(string(raw[1:n-1])) {
			return append(b, raw...), nil
		}
		if !f.canonical {
			return appendCompact(b, raw)
		}
		raw, err = events.Canonical(raw)
		return append(b, raw...), err
	}
}

// appendCompact writes JSON as encoding/json does what a value makes of itself.
func appendCompact(b, raw []byte) ([]byte, error) {
	var compact, escaped bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return b, err
	}
	json.HTMLEscape(&escaped, compact.Bytes())
	return append(b, escaped.Bytes()...), nil
}

func appendTime(b []byte, at unsafe.Pointer) ([]byte, error) {
	t := (*metav1.Time)(at)
	if t.IsZero() {
		return append(b, "null"...), nil
	}
	b = t.UTC().AppendFormat(append(b, '"'), time.RFC3339)
	return append(b, '"'), nil
}

// asIs are fields of managers that encoding/json writes as they are: those of many objects
// are the same, and to look through them takes longer than all else. Where two want the
// same place the later one has it.
var (
	asIs     [1 << 10]atomic.Pointer[string]
	asIsSeed = maphash.MakeSeed()
)

// longestAsIs is how long fields may be that are remembered.
const longestAsIs = 4 << 10

func appendFields(b []byte, at unsafe.Pointer) ([]byte, error) {
	raw, err := (*metav1.FieldsV1)(at).MarshalJSON()
	if err != nil {
		return b, err
	}
	place := &asIs[maphash.Bytes(asIsSeed, raw)%uint64(len(asIs))]
	if known := place.Load(); known != nil && *known == string(raw) {
		return append(b, raw...), nil
	}
	from := len(b)
	if b, err = appendCompact(b, raw); err == nil && len(raw) <= longestAsIs && bytes.Equal(b[from:], raw) {
		known := string(raw)
		place.Store(&known)
	}
	return b, err
}

func appendPointer(item appender) appender {
	return func(b []byte, at unsafe.Pointer) ([]byte, error) {
		if p := *(*unsafe.Pointer)(at); p != nil {
			return item(b, p)
		}
		return append(b, "null"...), nil
	}
}

func (m maker) appendSlice(t reflect.Type) appender {
	if t.Elem().Kind() == reflect.Uint8 {
		if own(t.Elem()) {
			return m.appendSlowly(t)
		}
		return func(b []byte, at unsafe.Pointer) ([]byte, error) {
			raw := *(*[]byte)(at)
			if raw == nil {
				return append(b, "null"...), nil
			}
			return append(base64.StdEncoding.AppendEncode(append(b, '"'), raw), '"'), nil
		}
	}
	item, size := m.appender(t.Elem()), t.Elem().Size()
	return func(b []byte, at unsafe.Pointer) (_ []byte, err error) {
		// Of any type, its items are where those of one of bytes would be.
		items := *(*[]byte)(at)
		if items == nil {
			return append(b, "null"...), nil
		}
		b = append(b, '[')
		for i, first := 0, unsafe.Pointer(unsafe.SliceData(items)); i < len(items); i++ {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = item(b, unsafe.Add(first, uintptr(i)*size)); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil
	}
}

// appendTexts appends a map of texts to texts, in the order of their keys.
func (f *form) appendTexts(t reflect.Type) appender {
	slowly := f.appendSlowly(t)
	return func(b []byte, at unsafe.Pointer) (_ []byte, err error) {
		all := *(*map[string]string)(at)
		if all == nil {
			return append(b, "null"...), nil
		}
		var room [16]string
		keys := room[:0]
		for k := range all {
			if !plain(k) {
				return slowly(b, at) // Their order may be another than that of what they read as.
			}
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b = append(b, '{')
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, '"'), k...), `":`...)
			if b, err = f.appendString(b, all[k]); err != nil {
				return b, err
			}
		}
		return append(b, '}'), nil
	}
}

// appendString appends a text. What has to be escaped in it escapes encoding/json, unless
// it is to be canonical.
func (f *form) appendString(b []byte, s string) ([]byte, error) {
	if plain(s) {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"'), nil
	}
	if f.canonical {
		return events.AppendString(b, s), nil
	}
	raw, err := json.Marshal(s)
	return append(b, raw...), err
}

// plain says whether a text is one that JSON, and HTML, has as it is.
func plain(s string) bool {
	for i := range len(s) {
		if !unescaped[s[i]] {
			return false
		}
	}
	return true
}

var unescaped = func() (is [256]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		is[c] = !strings.ContainsRune(`"\<>&`, rune(c))
	}
	return is
}()
