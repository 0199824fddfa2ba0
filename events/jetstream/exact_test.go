package jetstream_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// block is an event's headers as the client writes them.
func block(e *events.Event) (headers string, body []byte) {
	h, body := jetstream.Encode(e)
	var keys []string
	for key := range h {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var b strings.Builder
	b.WriteString("NATS/1.0\r\n")
	for _, key := range keys {
		fmt.Fprintf(&b, "%s: %s\r\n", key, h[key][0])
	}
	return b.String() + "\r\n", body
}

// Only the bytes that Append writes are taken for an event.
func TestDecodeExact(t *testing.T) {
	e := events.Event{
		Sequence: 8, Type: "pod.bound", Object: events.Ref{Resource: "pods", Namespace: "shop", Name: "web 1"}, UID: "u",
		Actor: events.Actor{Kind: "scheduler", Version: "v1"}, User: "alice", Audit: "a", Cause: 7, Basis: 7,
		Time: time.UnixMilli(1767323045670).UTC(), Now: time.UnixMilli(1767323045000).UTC(), Optional: true, More: true,
		Note: []byte(`{"a":1}`), Asked: []byte(`{"b":2}`), Chain: [32]byte{1, 2}, Data: []byte(`[]`),
	}
	const subject = "reprise.core.pods.shop.bound"
	headers, body := block(&e)
	read := func(subject, headers, body string) error {
		got, err := jetstream.DecodeExact("reprise", []byte(subject), []byte(headers), []byte(body), 8)
		if err == nil && got.Headline() != e.Headline() {
			t.Errorf("it is read as %s", got.Text())
		}
		return err
	}
	addressed := strings.Replace(headers, "ce-id", "Nats-Expected-Last-Sequence: 7\r\nce-id", 1)
	for _, good := range []string{headers, addressed} {
		if err := read(subject, good, string(body)); err != nil {
			t.Errorf("%v\n%s", err, good)
		}
	}
	long := e
	long.Note = []byte(`"` + strings.Repeat("x", 20_000) + `"`)
	if headers, body := block(&long); read(subject, headers, string(body)) != nil {
		t.Error("a long note is not read")
	}
	newer := strings.Replace(headers, "ce-id", "ce-hue: red\r\nce-id", 1)
	if err := read(subject, newer, string(body)); !errors.Is(err, events.ErrNewerLog) {
		t.Errorf("a header of a later version: %v", err)
	}
	for what, change := range map[string][2]string{
		"a header twice":         {"ce-id: 8\r\n", "ce-id: 8\r\nce-id: 8\r\n"},
		"another id":             {"ce-id: 8", "ce-id: 9"},
		"zeros before a number":  {"ce-cause: 7", "ce-cause: 07"},
		"a time written longer":  {".67Z", ".670Z"},
		"a value that is not so": {"ce-more: true", "ce-more: True"},
		"an escape too many":     {"ce-user: alice", "ce-user: %61lice"},
		"a blank":                {"ce-user: alice", "ce-user:  alice"},
		"no blank":               {"ce-user: alice", "ce-user:alice"},
		"another case":           {"ce-chain: 0102", "ce-chain: 010A"},
		"no end":                 {"\r\n\r\n", "\r\n"},
		"another protocol":       {"NATS/1.0", "NATS/1.1"},
		"a status":               {"NATS/1.0", "NATS/1.0 503"},
	} {
		if err := read(subject, strings.Replace(headers, change[0], change[1], 1), string(body)); err == nil {
			t.Errorf("%s is not noticed", what)
		}
	}
	if read("reprise.core.pods.shop.ready", headers, string(body)) == nil {
		t.Error("another subject is not noticed")
	}
}
