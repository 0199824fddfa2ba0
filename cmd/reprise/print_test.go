package main

import (
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// Two encrypted values have room in a line, so that both are seen.
func TestEncryptedValuesAreShort(t *testing.T) {
	before, after := strings.Repeat("Aa0+/bc9", 11)+"AAA=", strings.Repeat("Zz0+/bc9", 11)+"ZZZ="
	line := history.Line{Path: "data.token", Before: []byte(`"sealed/v001/` + before + `"`), After: []byte(`"sealed/v001/` + after + `"`)}
	for format, want := range map[string]string{
		"":     `data.token "sealed/v001/Aa0+/bc9…" -> "sealed/v001/Zz0+/bc9…"`,
		"wide": line.String(),
	} {
		if got := (printer{format: format}).changes([]history.Line{line}); len(got) != 1 || got[0] != want {
			t.Errorf("-o %s: %s", format, got)
		}
	}
	plain := history.Line{Path: "data.note", After: []byte(`"sealed/v001/a note, in the clear"`)}
	if got := (printer{}).changes([]history.Line{plain}); got[0] != plain.String() {
		t.Errorf("what is not encrypted: %s", got)
	}
}

// Programs get an object for each dead letter.
func TestDeadLettersForPrograms(t *testing.T) {
	var out strings.Builder
	at := time.Date(2026, 11, 26, 3, 0, 0, 0, time.FixedZone("", 3600))
	letter := events.DeadLetter{Delivery: "billing", Target: "https://example.com", Reason: "it says no", Attempts: 2, Since: at, At: at.Add(time.Hour), Event: events.Event{
		Sequence: 7, Type: "pod.bound", Object: events.Ref{Resource: "pods", Namespace: "shop", Name: "web"},
	}}
	found := letters{count: 1, all: func(yield func(events.DeadLetter, error) bool) { yield(letter, nil) }}
	want := `{"attempts":2,"delivery":"billing","event":7,"givenUp":"2026-11-26T03:00:00Z","object":"pods/shop/web","reason":"it says no","since":"2026-11-26T02:00:00Z","target":"https://example.com","type":"pod.bound"}` + "\n"
	if err := (printer{w: &out, format: "json"}).letters(found); err != nil || out.String() != want {
		t.Errorf("%v: %s", err, out.String())
	}
}

// Programs get an object for each integrator.
func TestIntegratorsForPrograms(t *testing.T) {
	var out strings.Builder
	status := events.SubscriberStatus{Subscriber: events.Subscriber{Name: "billing", Key: "UX", Filters: []events.Filter{{Resource: "pods", Namespace: "shop", Fact: "*"}}}, Done: 7, Pending: 3}
	want := `{"after":0,"allow":["pods.shop.*"],"connections":0,"delivered":0,"done":7,"inOrder":false,"name":"billing","unacknowledged":0,"waiting":3}` + "\n"
	if err := (printer{w: &out, format: "json"}).integrators([]events.SubscriberStatus{status}); err != nil || out.String() != want {
		t.Errorf("%v: %s", err, out.String())
	}
}
