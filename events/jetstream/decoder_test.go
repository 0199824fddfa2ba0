package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

// block is the block of headers of an event's message.
func block(e *events.Event) (headers, body []byte) {
	var b bytes.Buffer
	b.WriteString("NATS/1.0\r\n")
	h, body := Encode(e)
	for _, key := range slices.Backward(fieldNames[:]) { // in whatever order
		if len(h[key]) > 0 {
			fmt.Fprintf(&b, "%s: %s\r\n", key, h[key][0])
		}
	}
	fmt.Fprintf(&b, "%s: 17\r\n\r\n", hExpect)
	return b.Bytes(), bytes.Clone(body)
}

// A Decoder reads what Decode reads, however often it has met the names.
func TestDecoder(t *testing.T) {
	d := NewDecoder()
	for i := range 3 * manyNames {
		want := events.Event{
			Sequence: uint64(i + 1), Type: "pod.started", UID: fmt.Sprintf("uid-%d", i%9000), Audit: fmt.Sprint("audit", i), User: "ü%",
			Object: events.Ref{Group: "a/b", Resource: "pods", Namespace: "shop", Name: fmt.Sprintf("web%%-%d", i%9000)},
			Actor:  events.Actor{Kind: "node", Name: fmt.Sprintf("n/%d", i%10), Version: "1"}, Cause: uint64(i), More: i%3 == 0,
			Time: time.UnixMilli(1767323045678).UTC(), Chain: [32]byte{byte(i), 31: 1}, Data: []byte(`[{"op":"add"}]`), Note: []byte(`{"a":"ü"}`),
		}
		if i%2 == 0 {
			want.Object.Namespace = ""
		}
		headers, body := block(&want)
		got, err := d.Decode(headers, body, want.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		clear(headers)
		clear(body)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got\n%#v\nwant\n%#v", got, want)
		}
	}
}

// What is no block of headers, or has one that makes no sense, is refused each time.
func TestDecoderRefuses(t *testing.T) {
	e := events.Event{Sequence: 1, Type: "pod.started", UID: "u", Object: events.Ref{Resource: "pods", Name: "a"}, Actor: events.Actor{Kind: "api"}, Chain: [32]byte{1}}
	whole, body := block(&e)
	d := NewDecoder()
	for range 2 {
		if _, err := d.Decode(whole, body, 1); err != nil {
			t.Fatal(err)
		}
		for end := range whole {
			if _, err := d.Decode(whole[:end], body, 1); !errors.Is(err, events.ErrDamaged) {
				t.Fatalf("cut to %q: %v", whole[:end], err)
			}
		}
		for _, change := range [][2]string{
			{"NATS/1.0", "NATS/1.1"}, {": ", ":"}, {"\r\n", "\n"}, {"ce-uid: u", "ce-uid: "}, {"ce-uid: u", "ce-uid: u\r\nce-uid: u"},
			{"ce-subject: pods/a", "ce-subject: pods"}, {"ce-source: /api/", "ce-source: api"}, {"ce-source: /api/", "ce-source: /%ZZ/"},
			{"ce-subject: pods/a", "ce-subject: pods/%ZZ"}, {"ce-chain: 01", "ce-chain: x1"}, {"ce-type", "ce-typo"},
		} {
			bad := bytes.Replace(whole, []byte(change[0]), []byte(change[1]), 1)
			if _, err := d.Decode(bad, body, 1); !errors.Is(err, events.ErrDamaged) {
				t.Errorf("%q in place of %q: %v", change[1], change[0], err)
			}
		}
	}
}
