package main

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
)

// Replay knows each decider that the server runs, set up in the same way.
func TestReplayKnowsTheDeciders(t *testing.T) {
	for _, d := range deciders([]byte("certificate"), scheduler.New("")) {
		by := d.Actor().String()
		if by == "controller:recorder" {
			continue // what it writes is no history
		}
		var setup []byte
		if tuned, ok := d.(runner.Tuned); ok {
			setup = tuned.Setup()
		}
		again, known, err := replay.Deciders(by, setup)
		if !known || err != nil {
			t.Errorf("replay has no %s: %v", by, err)
			continue
		}
		if again.Actor() != d.Actor() || reflect.TypeOf(again) != reflect.TypeOf(d) {
			t.Errorf("%s is %T there, and %T here", by, again, d)
		}
		if tuned, ok := again.(runner.Tuned); ok && !bytes.Equal(tuned.Setup(), setup) {
			t.Errorf("%s is set up there as %s, and here as %s", by, tuned.Setup(), setup)
		}
	}
}
