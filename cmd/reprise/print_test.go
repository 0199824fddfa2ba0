package main

import (
	"strings"
	"testing"

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

// Programs get an object for each integrator.
func TestIntegratorsForPrograms(t *testing.T) {
	var out strings.Builder
	status := events.SubscriberStatus{Subscriber: events.Subscriber{Name: "billing", Key: "UX", Filters: []events.Filter{{Resource: "pods", Namespace: "shop", Fact: "*"}}}, Done: 7, Pending: 3}
	want := `{"after":0,"allow":["pods.shop.*"],"connections":0,"delivered":0,"done":7,"inOrder":false,"name":"billing","unacknowledged":0,"waiting":3}` + "\n"
	if err := (printer{w: &out, format: "json"}).integrators([]events.SubscriberStatus{status}); err != nil || out.String() != want {
		t.Errorf("%v: %s", err, out.String())
	}
}
