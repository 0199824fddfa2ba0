package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// Decoder decodes the messages of a long log, for one goroutine. Names that come
// again and again, as most do, are held in memory once.
type Decoder struct {
	known names
	lines lines
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder { return &Decoder{known: make(names)} }

// Decode is package function Decode for a message's block of headers as it lies in
// the stream. That they are what Append has written is for the chain to show. The
// event shares no memory with them or the body.
func (d *Decoder) Decode(headers, body []byte, sequence uint64) (events.Event, error) {
	var err error
	d.lines, err = appendLines(d.lines[:0], string(headers))
	if errors.Is(err, errLines) {
		return events.Event{}, fmt.Errorf("message %d of the log is no event: its block of headers is %q: %w", sequence, headers, events.ErrDamaged)
	}
	return decode(&d.lines, bytes.Clone(body), sequence, d.known)
}

// names are strings by what they say, so that each is held once. None keep
// nothing.
type names map[string]string

// manyNames are no longer names that come again and again.
const manyNames = 1 << 13

// get returns the string that says the same as s.
func (n names) get(s string) string {
	if n == nil || s == "" {
		return s
	}
	known, ok := n[s]
	if !ok {
		if len(n) >= manyNames {
			clear(n)
		}
		known = strings.Clone(s)
		n[known] = known
	}
	return known
}
