package events

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// timeFormat is RFC 3339 in UTC, to the millisecond.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Headline is what happened to what, by whom and why, in one line:
//
//	pod.bound  pods/default/web-1  seq 812  by scheduler  because 807
//
// An event that the gate wrote says for whom ("by api  for admin"), one whose
// decision goes on in the next event ends in "more".
func (e *Event) Headline() string {
	var b strings.Builder
	b.WriteString(word(e.Type) + "  " + e.Object.Text())
	field := func(key, value string) {
		if value != "" {
			b.WriteString("  " + key + " " + value)
		}
	}
	field("seq", number(e.Sequence))
	if e.Actor.Kind != "" || e.Actor.Name != "" {
		field("by", e.Actor.text())
	}
	field("for", optionalWord(e.User))
	field("because", number(e.Cause))
	if e.Optional {
		b.WriteString("  optional")
	}
	if e.More {
		b.WriteString("  more")
	}
	return b.String()
}

// String is the headline and below it, indented, what changed: an operation of
// the patch a line, or the whole object. It leaves out what people seldom ask
// for; Text has it all.
func (e *Event) String() string {
	return e.Headline() + "\n" + e.changes()
}

// Text is the text form of the whole event: String with lines for the rest of
// the envelope. ParseText reads it.
func (e *Event) Text() string {
	var b strings.Builder
	b.WriteString(e.Headline() + "\n")
	var fields []string
	field := func(key, value string) {
		if value != "" {
			fields = append(fields, key+" "+value)
		}
	}
	field("uid", optionalWord(e.UID))
	field("at", moment(e.Time))
	field("version", optionalWord(e.Actor.Version))
	field("audit", optionalWord(e.Audit))
	field("basis", number(e.Basis))
	field("now", moment(e.Now))
	if len(fields) > 0 {
		b.WriteString("  " + strings.Join(fields, "  ") + "\n")
	}
	if e.Chain != [32]byte{} {
		b.WriteString("  chain " + hex.EncodeToString(e.Chain[:]) + "\n")
	}
	if len(e.Asked) > 0 {
		b.WriteString("  asked " + jsonOrQuoted(e.Asked) + "\n")
	}
	if len(e.Note) > 0 {
		b.WriteString("  note " + jsonOrQuoted(e.Note) + "\n")
	}
	b.WriteString(e.changes())
	return b.String()
}

// changes prints Data: readably if it can be read back to the same bytes, else
// quoted.
func (e *Event) changes() string {
	if len(e.Data) == 0 {
		return ""
	}
	if e.Data[0] == '{' && IsCanonical(e.Data) {
		return "  " + string(e.Data) + "\n"
	}
	ops, err := ParsePatch(e.Data)
	if err != nil || len(ops) == 0 || !bytes.Equal(AppendPatch(nil, ops), e.Data) {
		return "  data " + strconv.Quote(string(e.Data)) + "\n"
	}
	var b strings.Builder
	for _, op := range ops {
		b.WriteString("  " + op.String() + "\n")
	}
	return b.String()
}

// Text is String with odd parts quoted, so that ParseRef reads it back.
func (r Ref) Text() string {
	s := part(r.Resource, false)
	if r.Group != "" {
		s += "." + part(r.Group, true)
	}
	s += "/"
	if r.Namespace != "" {
		s += part(r.Namespace, true) + "/"
	}
	return s + part(r.Name, true)
}

func (a Actor) text() string {
	s := part(a.Kind, true)
	if a.Name != "" {
		s += ":" + part(a.Name, true)
	}
	return s
}

// part quotes one part of a name if it is empty or holds what separates parts.
func part(s string, dots bool) string {
	if s == "" || strings.ContainsAny(s, "/:") || (!dots && strings.Contains(s, ".")) {
		return strconv.Quote(s)
	}
	return word(s)
}

// word quotes what is not one plain word.
func word(s string) string {
	odd := func(r rune) bool {
		return !unicode.IsPrint(r) || r == ' ' || r == '"' || r == '#' || r == unicode.ReplacementChar
	}
	if s == "" || strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}

func optionalWord(s string) string {
	if s == "" {
		return ""
	}
	return word(s)
}

func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// jsonOrQuoted leaves JSON on one line as it is.
func jsonOrQuoted(b []byte) string {
	if json.Valid(b) && b[0] != '"' && !bytes.ContainsAny(b, "\n\r") && bytes.Equal(bytes.TrimSpace(b), b) {
		return string(b)
	}
	return strconv.Quote(string(b))
}
