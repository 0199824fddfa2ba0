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
	body := encode(e, func(key, value string) {
		if value != "" {
			h[key] = []string{value}
		}
	})
	return h, body
}

// encode says what each header is, "" for those that are left out, and returns the
// body.
func encode(e *events.Event, set func(key, value string)) []byte {
	body := e.Data
	set(hSpec, "1.0")
	set(hSchema, strconv.Itoa(schema))
	set(hID, strconv.FormatUint(e.Sequence, 10))
	set(hType, escape(e.Type, ""))
	set(hSource, "/"+escape(e.Actor.Kind, "/")+"/"+escape(e.Actor.Name, "/"))
	set(hSubject, encodeRef(e.Object))
	set(hVersion, escape(e.Actor.Version, ""))
	set(hUID, escape(e.UID, ""))
	set(hUser, escape(e.User, ""))
	set(hAudit, escape(e.Audit, ""))
	set(hCause, number(e.Cause))
	set(hBasis, number(e.Basis))
	set(hTime, instant(e.Time))
	set(hNow, instant(e.Now))
	set(hAsked, escape(string(e.Asked), ""))
	set(hOptional, flag(e.Optional))
	set(hMore, flag(e.More))
	if e.Chain != ([32]byte{}) {
		set(hChain, hex.EncodeToString(e.Chain[:]))
	}
	if len(e.Note) > longNote {
		set(hNoteAt, strconv.Itoa(len(e.Data)))
		body = append(bytes.Clone(e.Data), e.Note...)
	} else {
		set(hNote, escape(string(e.Note), ""))
	}
	return body
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

func encodeRef(r events.Ref) string {
	var b strings.Builder
	b.WriteString(escape(r.Resource, "/."))
	if r.Group != "" {
		b.WriteByte('.')
		b.WriteString(escape(r.Group, "/"))
	}
	b.WriteByte('/')
	if r.Namespace != "" {
		b.WriteString(escape(r.Namespace, "/"))
		b.WriteByte('/')
	}
	b.WriteString(escape(r.Name, "/"))
	return b.String()
}

// escape percent-encodes what CloudEvents wants encoded in headers: white space,
// double quotes, percent signs and all that is not printable ASCII; and also.
func escape(s, also string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = !special(s[i], also)
	}
	if plain {
		return s
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+len(s)/2)
	for i := range len(s) {
		if c := s[i]; special(c, also) {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func special(c byte, also string) bool {
	for i := range len(also) { // two at most, for which a search takes longer
		if also[i] == c {
			return true
		}
	}
	return c <= ' ' || c >= 0x7f || c == '"' || c == '%'
}

func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func flag(b bool) string {
	if b {
		return "true"
	}
	return ""
}
