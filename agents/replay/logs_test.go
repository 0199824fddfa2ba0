package replay_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/projections"
)

const (
	logs      = "../../testdata/logs"
	explained = logs + "/differences.txt"
)

// advice is what to do about a difference that nobody has explained.
const advice = `A recorded log is decided otherwise by this change. If you did not mean that, it is
a bug: see what was asked with

	go run ./cmd/reprise replay testdata/logs/%s -o wide

If you did, say why in testdata/logs/differences.txt, in this line:

	%s @%d  <what decides otherwise now, and why that is right>
`

// TestRecordedLogs replays the logs in testdata/logs. Each difference must be
// explained in differences.txt, and each explanation be needed.
func TestRecordedLogs(t *testing.T) {
	reasons := explanations(t)
	files, err := filepath.Glob(logs + "/*.reprise")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no recorded logs in %s: %v", logs, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			name := filepath.Base(file)
			o := replay.Options{Difference: func(d replay.Difference) {
				line := fmt.Sprintf("%s @%d", name, d.Sequence)
				if _, known := reasons[line]; known {
					t.Logf("explained: %s: %s", line, reasons[line])
					reasons[line] = ""
					return
				}
				t.Errorf("%s\n"+advice, d.Text(false), name, name, d.Sequence)
			}}
			var r *replay.Replay
			readArchive(t, file, func(state *projections.State) {
				o.State = state
				r = replay.New(o)
			}, func(batch []events.Event) error { return r.Feed(batch) })
			report, err := r.Finish()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("replayed:\n%s", report.Text())
			for _, a := range report.Agents() {
				if a.Equal == 0 && (a.Agent == "scheduler" || strings.HasPrefix(a.Agent, "controller:")) {
					t.Errorf("no decision of %s could be compared", a.Agent)
				}
			}
		})
	}
	for line, reason := range reasons {
		if reason != "" {
			t.Errorf("%s explains a difference that is none: %q; take the line out", explained, line)
		}
	}
}

// explanations reads differences.txt: lines "FILE @SEQUENCE  REASON".
func explanations(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open(explained)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reasons := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		words := strings.Fields(text)
		if len(words) < 3 || !strings.HasPrefix(words[1], "@") {
			t.Fatalf("%s: %q is not \"FILE @SEQUENCE  REASON\"", explained, text)
		}
		if _, err := strconv.ParseUint(words[1][1:], 10, 64); err != nil {
			t.Fatalf("%s: %q: %v", explained, text, err)
		}
		reasons[words[0]+" "+words[1]] = strings.Join(words[2:], " ")
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return reasons
}

func readArchive(t testing.TB, file string, begin func(*projections.State), feed func([]events.Event) error) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := archive.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	state := projections.NewState()
	state.StartAt(r.Header().From - 1)
	for o, err := range r.Objects() {
		if err != nil {
			t.Fatal(err)
		}
		state.Put(projections.NewEntry(o.Ref, o.UID, o.Created, o.Sequence, o.Raw))
	}
	begin(state)
	for batch, err := range r.Batches() {
		if err == nil {
			err = feed(batch)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// On a recorded log of one node, another policy puts no pod elsewhere, and the
// simulation does what happened.
func TestTrialOfRecordedLogs(t *testing.T) {
	files, err := filepath.Glob(logs + "/*.reprise")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var survey *replay.Survey
		readArchive(t, file, func(s *projections.State) { survey = replay.NewSurvey(s) }, func(b []events.Event) error { return survey.Feed(b) })
		for _, p := range []scheduler.Policy{{}, {Fit: scheduler.MostAllocated}} {
			s, err := scheduler.NewWith("", p)
			if err != nil {
				t.Fatal(err)
			}
			var trial *replay.Trial
			readArchive(t, file, func(state *projections.State) {
				trial = replay.NewTrial(s, survey, state, func(p replay.Placement) { t.Errorf("%s: %s", file, p.Text()) })
			}, func(b []events.Event) error { return trial.Feed(b) })
			if o := trial.Finish(); o.Same != survey.Bindings() {
				t.Errorf("%s: of %d bindings:\n%s", file, survey.Bindings(), o.Text())
			}
		}
	}
}

// A scheduler that counts otherwise is found in each recorded log.
func TestRecordedLogsFindAChange(t *testing.T) {
	other := func(actor string, setup []byte) (runner.Decider, bool, error) {
		if actor != "scheduler" {
			return replay.Deciders(actor, setup)
		}
		s, err := scheduler.NewWith("", scheduler.Policy{Fit: scheduler.MostAllocated})
		return s, true, err
	}
	files, err := filepath.Glob(logs + "/*.reprise")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var r *replay.Replay
		readArchive(t, file, func(s *projections.State) {
			r = replay.New(replay.Options{State: s, Make: other})
		}, func(b []events.Event) error { return r.Feed(b) })
		report, err := r.Finish()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range report.Agents() {
			if a.Agent == "scheduler" && a.Different == 0 {
				t.Errorf("%s: the change is not found:\n%s", file, report.Text())
			}
		}
	}
}
