package events_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/events"
)

// TestCommand runs the transcripts of the gate: an object before and after, a
// line each ("-" for none), and the fact that it becomes.
func TestCommand(t *testing.T) {
	datadriven.RunTest(t, "testdata/command.txt", func(t *testing.T, d *datadriven.TestData) string {
		before, after, _ := strings.Cut(d.Input, "\n")
		object, err := events.ParseRef(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		version := func(s string) []byte {
			if s == "-" {
				return nil
			}
			return canonical(t, s)
		}
		c, changed, err := events.Command(object, "u1", version(before), version(after))
		switch {
		case err != nil:
			return fmt.Sprintln("error:", err)
		case !changed:
			return "nothing changed\n"
		}
		e := events.Event{Type: c.Type, Object: c.Object, UID: c.UID, Data: c.Data, Optional: c.Optional, Actor: events.Actor{Kind: "api"}}
		if err := e.Check(); err != nil {
			t.Errorf("the gate may not write what it decided on: %v", err)
		}
		return e.String()
	})
}
