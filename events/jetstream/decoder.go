package jetstream

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// Decoder decodes the messages of a long log, for one goroutine. Names that come
// again and again, as most do, are held in memory once.
type Decoder struct{ known names }

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder {
	return &Decoder{names{texts: make(map[string]string), actors: make(map[string]events.Actor), refs: make(map[string]events.Ref)}}
}

// Decode is package function Decode for a message's block of headers as it lies in
// the stream. That they are what Append has written is for the chain to show. The
// event shares no memory with them or the body.
func (d *Decoder) Decode(headers, body []byte, sequence uint64) (events.Event, error) {
	var f fields
	if !f.parse(string(headers)) {
		return events.Event{}, fmt.Errorf("message %d of the log is no event: its block of headers is %q: %w: %w", sequence, headers, errLines, events.ErrDamaged)
	}
	return decode(&f, bytes.Clone(body), sequence, &d.known)
}

// names are strings, and what is made of some, by what they say, so that each is held
// once. A nil one keeps nothing.
type names struct {
	texts  map[string]string
	actors map[string]events.Actor // without version, by the header that names one
	refs   map[string]events.Ref
}

// manyNames are no longer names that come again and again.
const manyNames = 1 << 13

// get returns the string that says the same as s.
func (n *names) get(s string) string {
	if n == nil || s == "" {
		return s
	}
	known, ok := n.texts[s]
	if !ok {
		if len(n.texts) >= manyNames {
			clear(n.texts)
		}
		known = strings.Clone(s)
		n.texts[known] = known
	}
	return known
}

func (n *names) actor(header string) (events.Actor, bool) {
	if n == nil {
		return events.Actor{}, false
	}
	a, ok := n.actors[header]
	return a, ok
}

// keepActor keeps what a header was read as, unless something was bad.
func (n *names) keepActor(header string, a *events.Actor, bad field) {
	if n == nil || bad != fNone {
		return
	}
	if len(n.actors) >= manyNames {
		clear(n.actors)
	}
	a.Kind, a.Name = n.get(a.Kind), n.get(a.Name)
	n.actors[strings.Clone(header)] = *a
}

func (n *names) ref(header string) (events.Ref, bool) {
	if n == nil {
		return events.Ref{}, false
	}
	r, ok := n.refs[header]
	return r, ok
}

// keepRef keeps what a header was read as, unless something was bad.
func (n *names) keepRef(header string, r *events.Ref, bad field) {
	if n == nil || bad != fNone {
		return
	}
	if len(n.refs) >= manyNames {
		clear(n.refs)
	}
	r.Group, r.Resource, r.Namespace, r.Name = n.get(r.Group), n.get(r.Resource), n.get(r.Namespace), n.get(r.Name)
	n.refs[strings.Clone(header)] = *r
}
