package pebble_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestEmptyLog starts twice on a log without events: all questions have answers.
func TestEmptyLog(t *testing.T) {
	fs, log := vfs.NewMem(), memlog.New()
	for range 2 {
		s := open(t, fs)
		l, err := live.Start(t.Context(), log, live.Options{Store: s, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(collect(t, s, history.Query{Since: time.Unix(1, 0)})); n != 0 || s.Folded() != 0 {
			t.Errorf("%d events at %d", n, s.Folded())
		}
		if e, err := s.At(projectionstest.Pod("a", "b"), 0); e != nil || err != nil {
			t.Errorf("an object: %v, %v", e, err)
		}
		if n, err := s.SequenceAt(projectionstest.Epoch); n != 0 || err != nil {
			t.Errorf("sequence %d, %v", n, err)
		}
		if state, err := s.StateAt(t.Context(), 0); err != nil || state.Len() != 0 {
			t.Errorf("a state: %v, %v", state, err)
		}
		if _, err := s.StateAt(t.Context(), 1); !errors.Is(err, events.ErrNotFound) {
			t.Errorf("the state of a sequence to come: %v", err)
		}
		report, err := s.Verify(t.Context(), log, l.View())
		if err != nil || !report.Identical() {
			t.Errorf("verify: %+v, %v", report, err)
		}
		l.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
