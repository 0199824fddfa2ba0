package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/events/eventsgen"
)

// Replay knows each decider that the server runs, set up in the same way.
func TestReplayKnowsTheDeciders(t *testing.T) {
	for _, d := range deciders([]byte("certificate"), scheduler.New(""), 0) {
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

// archived writes a log that is made up as an archive, and returns its path.
func archived(t testing.TB, events uint64) string {
	t.Helper()
	g := eventsgen.New(eventsgen.Options{Seed: 7, Events: events})
	path := filepath.Join(t.TempDir(), "made-up.reprise")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := archive.NewWriter(f, archive.Header{From: 1, To: events})
	if err != nil {
		t.Fatal(err)
	}
	for batch := range g.Batches(1000) {
		if err := w.Append(batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// packed is a configuration by which nodes are filled up.
func packed(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "packed.yaml")
	text := `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated}}
  plugins: {score: {disabled: [{name: NodeResourcesBalancedAllocation}]}}
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t testing.TB, args ...string) (string, error) {
	t.Helper()
	var out, said bytes.Buffer
	err := (&Main{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &said}).Run(t.Context(), args)
	return out.String(), err
}

// The log of a cluster of many nodes is replayed, and tried with a scheduler that
// fills nodes up.
func TestReplayOfAnArchive(t *testing.T) {
	file := archived(t, 4_000)
	out, err := run(t, "replay", file, "--from", "@500")
	if err != nil || !strings.Contains(out, "no differences") {
		t.Errorf("%v:\n%s", err, out)
	}
	open := t.TempDir()
	if err := os.WriteFile(filepath.Join(open, archiveMark), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = run(t, "--data-dir", open, "replay", "--from", "@500")
	if err != nil || !strings.Contains(out, "no differences") {
		t.Errorf("where it is open: %v:\n%s", err, out)
	}
	out, err = run(t, "replay", file, "--from", "@1", "--to", "@1")
	if err != nil || !strings.Contains(out, "no decision that can be compared") {
		t.Errorf("of the first event alone: %v:\n%s", err, out)
	}
	out, err = run(t, "replay", file, "--scheduler-config", packed(t), "-o", "json")
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	var last struct {
		Outcome, Control replay.Outcome
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if o := last.Outcome; o.Different == 0 || o.Different+o.OnlyThen+o.OnlyNow != len(lines)-1 || o.Now.InUse.Mean >= o.Then.InUse.Mean {
		t.Errorf("%d lines, and %+v", len(lines), o)
	}
}

func TestReplayRefuses(t *testing.T) {
	file := archived(t, 500)
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, []byte("kind: Pod\napiVersion: v1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, says string }{
		{"replay nowhere.reprise", "cannot read the archive"},
		{"replay " + wrong, "this is not an archive of Reprise"},
		{"replay -o xml", `there is no output "xml"`},
		{"replay " + file + " --from @400 --to @300", "--from comes after --to"},
		{"replay " + file + " --from @501", "--from: @501: the archive holds the events from @1 to @500"},
		{"replay " + file + " --from tomorrow", "--from"},
		{"replay " + file + " --scheduler-config nowhere.yaml", "cannot read the scheduler's configuration"},
		{"replay " + file + " --scheduler-config " + wrong, "must be a KubeSchedulerConfiguration"},
		{"replay " + file + " --scheduler-config " + packed(t) + " --to @1", "the scheduler bound no pod in this history"},
	} {
		if out, err := run(t, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("reprise %s says %v, and should say %q\n%s", c.args, err, c.says, out)
		}
	}
}

// BenchmarkTrial is what an event costs that is read from an archive to try another
// scheduler: three times, for the survey, the trial and its control.
func BenchmarkTrial(b *testing.B) {
	const events = 20_000
	file, config := archived(b, events), packed(b)
	for b.Loop() {
		if _, err := run(b, "replay", file, "--scheduler-config", config, "-o", "json"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*events/b.Elapsed().Seconds(), "events/s")
}
