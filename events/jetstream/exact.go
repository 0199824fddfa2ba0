package jetstream

import (
	"errors"
	"fmt"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// DecodeExact is Decode for a message as it lies in the stream of a prefix: its
// subject, its block of headers and its body. It refuses, with events.ErrDamaged,
// also what can be read as an event and is not what Append writes for that event. A
// header that only a later version can have written is events.ErrNewerLog. The order
// of headers says nothing: the NATS client writes them in a new one each time.
func DecodeExact(prefix string, lies, headers, body []byte, sequence uint64) (events.Event, error) {
	bad := func(what string, is any) (events.Event, error) {
		return events.Event{}, fmt.Errorf("message %d of the log is not as it was written: its %s is %q: %w", sequence, what, is, events.ErrDamaged)
	}
	h, err := parseLines(string(headers))
	if err != nil {
		return bad("block of headers", headers)
	}
	var f fields
	for i := range h {
		f[fieldOf(h[i].key)] = h[i].value
	}
	e, err := decode(&f, body, sequence, nil)
	if err != nil {
		return e, err
	}
	wrong, expected := "", 0
	w := headerWriter{set: func(key string, value []byte) {
		expected++
		if h.Get(key) != string(value) {
			wrong = key
		}
	}}
	content := w.encode(&e)
	switch {
	case wrong != "":
		return bad("header "+wrong, h.Get(wrong))
	case expected != len(h):
		for i := range h {
			if !known[h[i].key] {
				return events.Event{}, fmt.Errorf("event %d has the header %q, which this program does not know: %w", sequence, h[i].key, events.ErrNewerLog)
			}
		}
		return bad("block of headers", headers)
	case string(content) != string(body):
		return bad("body", body)
	case subject(prefix, &e) != string(lies):
		return bad("subject", lies)
	}
	return e, nil
}

// known are the headers that events have.
var known = func() map[string]bool {
	all := make(map[string]bool)
	for _, name := range fieldNames[fNone+1 : fChain+1] {
		all[name] = true
	}
	return all
}()

// lines are the headers of an event as they lie in the stream, without those by
// which Append addresses JetStream.
type lines []line

type line struct{ key, value string }

// Get returns the value of a header, "" if it is not there.
func (l lines) Get(key string) string {
	for i := range l {
		if l[i].key == key {
			return l[i].value
		}
	}
	return ""
}

var errLines = errors.New("not a block of headers as the client writes it")

// parseLines reads a block of headers, each of which is there once and has a value.
func parseLines(s string) (lines, error) {
	all := make(lines, 0, 24)
	s, ok := strings.CutPrefix(s, "NATS/1.0\r\n")
	for ok && s != "\r\n" {
		var l line
		if l.key, s, ok = strings.Cut(s, ": "); !ok {
			break
		}
		l.value, s, ok = strings.Cut(s, "\r\n")
		switch l.key {
		case hExpect, hBatch, hNumber, hCommit:
			continue
		}
		if l.value == "" || all.Get(l.key) != "" {
			return nil, errLines
		}
		all = append(all, l)
	}
	if !ok {
		return nil, errLines
	}
	return all, nil
}
