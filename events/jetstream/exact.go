package jetstream

import (
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

// ours are the headers that an append has beside those of the event.
var ours = map[string]bool{hExpect: true, hBatch: true, hNumber: true, hCommit: true}

// DecodeExact is Decode for a message as it lies in the stream of a prefix: its
// subject, its block of headers and its body. It refuses, with events.ErrDamaged,
// also what can be read as an event and is not what Append writes for that event.
func DecodeExact(prefix string, lies, headers, body []byte, sequence uint64) (events.Event, error) {
	h, err := nats.DecodeHeadersMsg(headers)
	if err != nil {
		return events.Event{}, fmt.Errorf("message %d of the log is no event, for its headers cannot be read (%w): %w", sequence, err, events.ErrDamaged)
	}
	e, err := Decode(h, body, sequence)
	if err != nil {
		return e, err
	}
	bad := func(what string, is any) (events.Event, error) {
		return events.Event{}, fmt.Errorf("message %d of the log is not as it was written: its %s is %q: %w", sequence, what, is, events.ErrDamaged)
	}
	want, content := Encode(&e)
	if s := subject(prefix, &e); s != string(lies) {
		return bad("subject", lies)
	}
	if string(content) != string(body) {
		return bad("body", body)
	}
	size, events := len("NATS/1.0\r\n\r\n"), 0
	for key, values := range h {
		if len(values) != 1 {
			return bad("header "+key, values)
		}
		size += len(key) + len(": ") + len(values[0]) + len("\r\n")
		if ours[key] {
			continue
		}
		if w := want[key]; len(w) != 1 || w[0] != values[0] {
			return bad("header "+key, values[0])
		}
		events++
	}
	if events != len(want) || size != len(headers) {
		return bad("block of headers", headers)
	}
	return e, nil
}
