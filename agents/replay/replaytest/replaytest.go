// Package replaytest holds whole logs that tests have made to what this program's
// deciders say now: whatever a test is about, its log must replay without a
// difference.
package replaytest

import (
	"testing"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/events"
)

// Check replays a log and fails the test on each difference. The log must not be
// changed any more.
func Check(t testing.TB, log []events.Event, o replay.Options) replay.Report {
	t.Helper()
	o.Difference = func(d replay.Difference) { t.Errorf("decided otherwise now:\n%s", d.Text(true)) }
	r := replay.New(o)
	if err := r.Feed(log); err != nil {
		t.Fatal(err)
	}
	report, err := r.Finish()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("replayed:\n%s", report.Text())
	return report
}
