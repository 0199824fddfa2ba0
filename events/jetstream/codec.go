package jetstream

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

// The headers of an event: CloudEvents attributes, and extensions where
// CloudEvents has no word. Those that would be empty are left out.
const (
	hSpec     = "ce-specversion"
	hID       = "ce-id" // the sequence
	hType     = "ce-type"
	hSource   = "ce-source"  // /kind/name
	hSubject  = "ce-subject" // resource.group/namespace/name
	hTime     = "ce-time"
	hSchema   = "ce-schema"
	hVersion  = "ce-sourceversion"
	hUID      = "ce-uid"
	hUser     = "ce-user"
	hAudit    = "ce-audit"
	hCause    = "ce-cause"
	hBasis    = "ce-basis"
	hNow      = "ce-now"
	hAsked    = "ce-asked"
	hOptional = "ce-optional"
	hMore     = "ce-more"
	hNote     = "ce-note"
	hNoteAt   = "ce-noteat" // a long note follows the data in the body, from this byte on
	hChain    = "ce-chain"
)

// schema is the version of the envelope that this program writes. A reader that
// meets a higher one stops.
const schema = 1

// longNote is how long a note may be in a header: all of a message's headers
// together may have 64 kB.
const longNote = 8 << 10

// Encode returns the headers and the body of an event's message, except for the
// headers that say where it goes in the stream.
func Encode(e *events.Event) (nats.Header, []byte) {
	h := make(nats.Header, 20)
	w := headerWriter{set: func(key string, value []byte) { h[key] = []string{string(value)} }}
	return h, w.encode(e)
}

// headerWriter makes the headers of events, each value in the same memory.
type headerWriter struct {
	set   func(key string, value []byte) // is told each that is not left out
	space []byte
}

// encode says what an event's headers are, and returns the body.
func (h *headerWriter) encode(e *events.Event) []byte {
	h.put(hSpec, "1.0", "")
	h.number(hSchema, schema)
	h.tell(hID, strconv.AppendUint(h.space[:0], e.Sequence, 10))
	h.put(hType, e.Type, "")
	h.source(&e.Actor)
	h.object(&e.Object)
	h.put(hVersion, e.Actor.Version, "")
	h.put(hUID, e.UID, "")
	h.put(hUser, e.User, "")
	h.put(hAudit, e.Audit, "")
	h.number(hCause, e.Cause)
	h.number(hBasis, e.Basis)
	h.instant(hTime, e.Time)
	h.instant(hNow, e.Now)
	h.tell(hAsked, appendEscaped(h.space[:0], e.Asked, ""))
	h.flag(hOptional, e.Optional)
	h.flag(hMore, e.More)
	if e.Chain != ([32]byte{}) {
		h.tell(hChain, hex.AppendEncode(h.space[:0], e.Chain[:]))
	}
	if len(e.Note) > longNote {
		h.tell(hNoteAt, strconv.AppendInt(h.space[:0], int64(len(e.Data)), 10))
		return append(bytes.Clone(e.Data), e.Note...)
	}
	h.tell(hNote, appendEscaped(h.space[:0], e.Note, ""))
	return e.Data
}

// tell says what a header is, and keeps the memory for the next.
func (h *headerWriter) tell(key string, value []byte) {
	if h.space = value; len(value) > 0 {
		h.set(key, value)
	}
}

func (h *headerWriter) put(key, value, also string) {
	h.tell(key, appendEscaped(h.space[:0], value, also))
}

func (h *headerWriter) number(key string, n uint64) {
	if n != 0 {
		h.tell(key, strconv.AppendUint(h.space[:0], n, 10))
	}
}

func (h *headerWriter) instant(key string, t time.Time) {
	if !t.IsZero() {
		h.tell(key, t.UTC().AppendFormat(h.space[:0], time.RFC3339Nano))
	}
}

func (h *headerWriter) flag(key string, b bool) {
	if b {
		h.put(key, "true", "")
	}
}

func (h *headerWriter) source(a *events.Actor) {
	b := appendEscaped(append(h.space[:0], '/'), a.Kind, "/")
	h.tell(hSource, appendEscaped(append(b, '/'), a.Name, "/"))
}

func (h *headerWriter) object(r *events.Ref) {
	b := appendEscaped(h.space[:0], r.Resource, "/.")
	if r.Group != "" {
		b = appendEscaped(append(b, '.'), r.Group, "/")
	}
	b = append(b, '/')
	if r.Namespace != "" {
		b = append(appendEscaped(b, r.Namespace, "/"), '/')
	}
	h.tell(hSubject, appendEscaped(b, r.Name, "/"))
}

// Decode is the inverse of Encode for the message at a sequence. It fails with
// events.ErrNewerLog (wrapped) on an envelope of a later version, and with
// events.ErrDamaged on what is none. The event shares the body's memory.
func Decode(h nats.Header, body []byte, sequence uint64) (events.Event, error) {
	return decode(fieldsOf(h), body, sequence, nil)
}

func decode(h *fields, body []byte, sequence uint64, known *names) (events.Event, error) {
	d := decoder{header: h, names: known}
	if v := d.number(fSchema); v > schema {
		return events.Event{}, fmt.Errorf("event %d has an envelope of version %d, and this program knows %d: %w", sequence, v, schema, events.ErrNewerLog)
	}
	e := events.Event{
		Sequence: sequence,
		Type:     d.text(fType),
		UID:      d.text(fUID),
		User:     d.text(fUser),
		Audit:    d.once(fAudit),
		Cause:    d.number(fCause),
		Basis:    d.number(fBasis),
		Time:     d.instant(fTime),
		Now:      d.instant(fNow),
		Optional: h[fOptional] == "true",
		More:     h[fMore] == "true",
	}
	e.Actor = d.actor()
	e.Object = d.ref()
	d.chain(&e.Chain)
	if asked := d.once(fAsked); asked != "" {
		e.Asked = []byte(asked)
	}
	if note := d.once(fNote); note != "" {
		e.Note = []byte(note)
	}
	if h[fNoteAt] != "" {
		at := d.number(fNoteAt)
		if at > uint64(len(body)) {
			d.fail(fNoteAt)
			at = uint64(len(body))
		}
		body, e.Note = body[:at:at], body[at:]
	}
	if len(body) > 0 {
		e.Data = body
	}
	if e.Type == "" {
		d.fail(fType)
	}
	if d.bad != fNone {
		return events.Event{}, fmt.Errorf("message %d of the log is no event: its header %s is %q: %w", sequence, fieldNames[d.bad], h[d.bad], events.ErrDamaged)
	}
	return e, nil
}

// decoder reads headers and remembers the first that makes no sense.
type decoder struct {
	header *fields
	names  *names
	bad    field
}

func (d *decoder) fail(f field) {
	if d.bad == fNone {
		d.bad = f
	}
}

// text is what a header says that comes again and again.
func (d *decoder) text(f field) string {
	s := d.header[f]
	if strings.IndexByte(s, '%') < 0 {
		return d.names.get(s)
	}
	return d.unescape(f, s)
}

// once is what a header says that hardly comes again.
func (d *decoder) once(f field) string { return d.unescape(f, d.header[f]) }

func (d *decoder) unescape(f field, s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	s, err := url.PathUnescape(s)
	if err != nil {
		d.fail(f)
	}
	return s
}

func (d *decoder) number(f field) uint64 {
	s := d.header[f]
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		d.fail(f)
	}
	return n
}

func (d *decoder) instant(f field) time.Time {
	s := d.header[f]
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		d.fail(f)
	}
	return t.UTC()
}

func (d *decoder) actor() events.Actor {
	a, ok := d.names.actor(d.header[fSource])
	if !ok {
		kind, name, cut := strings.Cut(strings.TrimPrefix(d.header[fSource], "/"), "/")
		if !cut {
			d.fail(fSource)
		}
		a = events.Actor{Kind: d.unescape(fSource, kind), Name: d.unescape(fSource, name)}
		d.names.keepActor(d.header[fSource], &a, d.bad)
	}
	a.Version = d.text(fVersion)
	return a
}

func (d *decoder) ref() events.Ref {
	r, ok := d.names.ref(d.header[fSubject])
	if ok {
		return r
	}
	kind, rest, cut := strings.Cut(d.header[fSubject], "/")
	namespace, name, both := strings.Cut(rest, "/")
	if !both {
		namespace, name = "", rest
	}
	if !cut {
		d.fail(fSubject)
	}
	resource, group, _ := strings.Cut(kind, ".")
	r = events.Ref{
		Group: d.unescape(fSubject, group), Resource: d.unescape(fSubject, resource),
		Namespace: d.unescape(fSubject, namespace), Name: d.unescape(fSubject, name),
	}
	d.names.keepRef(d.header[fSubject], &r, d.bad)
	return r
}

func (d *decoder) chain(into *[32]byte) {
	s := d.header[fChain]
	if s == "" {
		return
	}
	if len(s) != 2*len(into) {
		d.fail(fChain)
		return
	}
	var digits [2 * len(into)]byte
	copy(digits[:], s)
	if _, err := hex.Decode(into[:], digits[:]); err != nil {
		d.fail(fChain)
	}
}

// escape percent-encodes what CloudEvents wants encoded in headers: white space,
// double quotes, percent signs and all that is not printable ASCII.
func escape(s string) string { return string(appendEscaped(nil, s, "")) }

// appendEscaped is escape of that, and of what is also to be encoded.
func appendEscaped[T string | []byte](b []byte, s T, also string) []byte {
	plain := 0
	for plain < len(s) && !special(s[plain], also) {
		plain++
	}
	b = append(b, s[:plain]...)
	const digits = "0123456789ABCDEF"
	for i := plain; i < len(s); i++ {
		if c := s[i]; special(c, also) {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

func special(c byte, also string) bool {
	for i := range len(also) { // two at most, for which a search takes longer
		if also[i] == c {
			return true
		}
	}
	return c <= ' ' || c >= 0x7f || c == '"' || c == '%'
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
