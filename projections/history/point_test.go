package history_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the test needs a zone that puts its clocks back

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestPoint runs the transcripts in testdata/point. Their commands:
//
//	log    N        a log of N events, one a second from 03:00:01 on
//	point  now=T    reads each line of the input as said at T, in a zone one hour
//	                east of UTC, and finds it in the log
func TestPoint(t *testing.T) {
	east := time.FixedZone("east", 3600)
	datadriven.Walk(t, "testdata/point", func(t *testing.T, path string) {
		var r history.Reader = recorded{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "log":
				var n int
				d.ScanArgs(t, "n", &n)
				h := projectionstest.NewHistory()
				for i := range n {
					h.Create(projectionstest.Pod("shop", fmt.Sprintf("web-%d", i)), `{"metadata":{}}`)
				}
				r = recorded{events: h.Events}
				return ""
			case "point":
				var said string
				d.ScanArgs(t, "now", &said)
				now, err := time.Parse(time.RFC3339, said)
				if err != nil {
					t.Fatal(err)
				}
				var out strings.Builder
				for line := range strings.Lines(d.Input) {
					fmt.Fprintln(&out, point(strings.TrimSuffix(line, "\n"), now.In(east), r))
				}
				return out.String()
			}
			t.Fatalf("no command %s", d.Cmd)
			return ""
		})
	})
}

func point(text string, now time.Time, r history.Reader) string {
	p, err := history.ParsePoint(text, now)
	if err != nil {
		return "parse: " + err.Error()
	}
	said := text
	if !p.Time.IsZero() {
		said += " = " + p.Time.Format(time.RFC3339Nano)
	}
	sequence, err := p.Resolve(r)
	if err != nil {
		return said + ": " + err.Error()
	}
	return fmt.Sprintf("%s: @%d", said, sequence)
}

// TestClocksPutBack asks for times in a night in which clocks showed the hour from
// two to three twice, and in one in which they never showed it.
func TestClocksPutBack(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, now, want string }{
		{"02:30", "2026-10-25T00:15:00Z", "2026-10-24T00:30:00Z"}, // 02:15 for the first time
		{"02:30", "2026-10-25T00:45:00Z", "2026-10-25T00:30:00Z"}, // 02:45 for the first time
		{"02:30", "2026-10-25T01:15:00Z", "2026-10-25T00:30:00Z"}, // 02:15 for the second time
		{"02:30", "2026-10-25T01:45:00Z", "2026-10-25T01:30:00Z"}, // 02:45 for the second time
		{"02:30", "2026-10-25T09:00:00Z", "2026-10-25T01:30:00Z"},
		{"02:30", "2026-10-26T01:00:00Z", "2026-10-25T01:30:00Z"}, // the day after, before it
		{"01:59", "2026-10-25T01:45:00Z", "2026-10-24T23:59:00Z"},
		{"03:00", "2026-10-25T01:45:00Z", "2026-10-24T01:00:00Z"},
		{"01:59", "2026-03-29T01:05:00Z", "2026-03-29T00:59:00Z"},
		{"03:01", "2026-03-29T01:05:00Z", "2026-03-29T01:01:00Z"},
		{"2026-10-25 02:30", "2026-10-27T01:00:00Z", "2026-10-25T01:30:00Z"},
		{"2026-10-25 02:30", "2026-10-25T00:45:00Z", "2026-10-25T00:30:00Z"}, // for the first time
		{"2026-10-25T02:30:00+02:00", "2026-10-27T01:00:00Z", "2026-10-25T00:30:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		p, err := history.ParsePoint(c.text, now.In(berlin))
		if got := p.Time.UTC().Format(time.RFC3339); err != nil || got != c.want {
			t.Errorf("%s at %s is %s (%v), want %s", c.text, now.In(berlin), got, err, c.want)
		}
	}
}
