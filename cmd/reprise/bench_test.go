package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections/pebble"
)

// A generated data directory has a log that a server can open, and a projection
// that has come as far.
func TestGenerate(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	m := &Main{Stdout: &out, Stderr: &out}
	args := []string{"bench", "generate", "--data-dir", dir, "--events", "2000"}
	if err := m.Run(t.Context(), args); err != nil {
		t.Fatal(err, out.String())
	}
	if !strings.Contains(out.String(), "2000 events in "+dir) {
		t.Errorf("it says %q", out.String())
	}
	if err := m.Run(t.Context(), args); err == nil || !strings.Contains(err.Error(), "empty log only") {
		t.Errorf("it writes a second log into the first: %v", err)
	}
	env := &environment{Main: m, DataDir: dir}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: env.LogDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log, err := jetstream.History(t.Context(), nc, jetstream.Config{Prefix: subjectPrefix})
	if err != nil {
		t.Fatal(err)
	}
	if last, err := log.Last(t.Context()); err != nil || last != 2000 {
		t.Errorf("the log ends at %d: %v", last, err)
	}
	s, err := pebble.Open(env.ProjectionDir(), pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Folded() != 2000 {
		t.Errorf("the projection is at %d", s.Folded())
	}
}
