package history_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
