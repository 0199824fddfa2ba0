package main

import (
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// crashes is a chain of causes of a container that starts and exits over and over,
// from the newest to a person's command.
func crashes(n int) iter.Seq2[history.Told, error] {
	return func(yield func(history.Told, error) bool) {
		for i := n; i > 0; i-- {
			e := events.Event{
				Sequence: uint64(i), Cause: uint64(i - 1), Type: []string{"container.exited", "container.started"}[i%2],
				Object: events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}, UID: "u1", Actor: events.Actor{Kind: "node", Name: "n1"},
				Data: []byte(`[]`),
			}
			if i == 1 {
				e.Type, e.Actor, e.User, e.Audit = "pod.created", events.Actor{Kind: "api"}, "alice", "r1"
			}
			if !yield(history.Told{Event: e}, nil) {
				return
			}
		}
	}
}

// Of a chain that is too long to read its two ends are told, and what is between
// is counted.
func TestLongChains(t *testing.T) {
	for n, want := range map[int]int{5: 5, 2 * ends: 2 * ends, 2*ends + 1: 2*ends + 1, 500: 2*ends + 1} {
		for format, lines := range map[string]int{"": want, "wide": n} {
			var out strings.Builder
			if err := (printer{w: &out, format: format}).chain(crashes(n)); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(out.String(), "\n"); got != lines+1 || !strings.HasSuffix(out.String(), "It began with a command of alice, request r1.\n") {
				t.Errorf("%d events %s are told in %d lines, want %d:\n%s", n, format, got-1, lines, &out)
			}
		}
	}
	var out strings.Builder
	if err := (printer{w: &out}).chain(crashes(500)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "└─ … 476 more: 238 container.exited, 238 container.started (-o wide shows them)") {
		t.Errorf("what is between is told as\n%s", &out)
	}
}

func TestNotesReadPlainly(t *testing.T) {
	for note, want := range map[string]string{
		`{"container":"web","attempt":0,"exitCode":137}`: "attempt 0, container web, exitCode 137",
		`"a probe failed"`: "a probe failed",
		`{"a":[1]}`:        `{"a":[1]}`,
		`no JSON`:          "no JSON",
	} {
		if got := plainly([]byte(note)); got != want {
			t.Errorf("%s reads as %s", note, got)
		}
	}
}

func TestChainAsATree(t *testing.T) {
	var out strings.Builder
	if err := (printer{w: &out, format: "json"}).chain(crashes(3)); err != nil {
		t.Fatal(err)
	}
	var e struct {
		Because struct{ Because struct{ Type, User string } }
	}
	if err := json.Unmarshal([]byte(out.String()), &e); err != nil || e.Because.Because.Type != "pod.created" || e.Because.Because.User != "alice" {
		t.Errorf("%v: %s", err, &out)
	}
	failing := func(yield func(history.Told, error) bool) { yield(history.Told{}, errors.New("broken")) }
	if err := (printer{w: &out}).chain(failing); err == nil || err.Error() != "broken" {
		t.Errorf("a chain that fails ends with %v", err)
	}
}

// Where a name passes from one object to the next there is a mark for people.
func TestNamesThatPassOn(t *testing.T) {
	for format, marks := range map[string]int{"": 1, "wide": 1, "json": 0, "text": 0} {
		var out strings.Builder
		n, err := (printer{w: &out, format: format}).told(func(yield func(history.Told, error) bool) {
			for told := range crashes(4) {
				if told.Event.Sequence < 3 {
					told.Event.UID = "u0"
				}
				if !yield(told, nil) {
					return
				}
			}
		})
		if got := strings.Count(out.String(), "pods/shop/web was u1 before this line and is u0 after it"); n != 4 || err != nil || got != marks {
			t.Errorf("%q: %d events, %d marks, %v\n%s", format, n, got, err, &out)
		}
	}
}

// What containers and clients write reaches the terminal as text alone, and what is
// no JSON does not keep programs from reading the rest.
func TestMessagesCannotSteerTheTerminal(t *testing.T) {
	told := history.Told{
		Event: events.Event{Sequence: 1, Type: "pod.failed", Object: events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}, UID: "u1", Note: []byte("no \x1b[2J JSON"), Data: []byte(`[]`)},
		Changes: []history.Line{{
			Path:   "status.containerStatuses[web].state",
			Before: json.RawMessage(`{"running":{}}`),
			After:  json.RawMessage(`{"terminated":{"exitCode":1,"message":"\u001b[31mred\nnext \u009b1m Grüße"}}`),
		}},
	}
	var out strings.Builder
	if err := (printer{w: &out, format: "wide"}).event(&told, ""); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 3 || strings.ContainsAny(out.String(), "\x1b\u009b") {
		t.Errorf("%d lines:\n%q", lines, out.String())
	}
	if want := `(exit code 1: \x1b[31mred\nnext \u009b1m Grüße)`; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in\n%s", want, &out)
	}
	out.Reset()
	if err := (printer{w: &out, format: "json"}).event(&told, ""); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"note":"no \u001b[2J JSON"`) {
		t.Errorf("as JSON it is %s", &out)
	}
}
