package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/agents/historian"
)

// opened serves an archive of so many events, and returns what runs a command there.
func opened(t *testing.T, events uint64) func(line string) (string, error) {
	t.Helper()
	file := archived(t, events)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	s := &archiveServer{file: file, env: &environment{Main: &Main{Stderr: t.Output()}, DataDir: dir, RunDir: dir}}
	t.Cleanup(s.close)
	if err := s.load(t.Context(), f, false); err != nil {
		t.Fatal(err)
	}
	if err := s.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func(line string) (string, error) {
		var out bytes.Buffer
		m := &Main{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out}
		err := m.Run(t.Context(), append([]string{"--data-dir", dir, "--run-dir", dir}, strings.Split(line, " ")...))
		return out.String(), err
	}
}

// Moments are written in `events` as everywhere.
func TestEventsBetweenMoments(t *testing.T) {
	run := opened(t, 300)
	numbers, err := run("events --from 20 --to 22 -o text")
	if err != nil || !strings.Contains(numbers, "seq 20 ") || !strings.Contains(numbers, "seq 22 ") || strings.Contains(numbers, "seq 23 ") {
		t.Fatalf("%v:\n%s", err, numbers)
	}
	for _, line := range []string{"events --from @20 --to @22 -o text", "events --from @20 --to 22 -o text"} {
		if out, err := run(line); err != nil || out != numbers {
			t.Errorf("%s: %v:\n%s", line, err, out)
		}
	}
	if out, err := run("events --from now -o text"); err != nil || !strings.Contains(out, "seq 300 ") || strings.Contains(out, "seq 299 ") {
		t.Errorf("%v:\n%s", err, out)
	}
	if out, err := run("events --from @300 --to @20"); err == nil || !strings.Contains(err.Error(), "the one comes after the other") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// What only a cluster can do is refused in an archive, at once and with the reason.
func TestAnArchiveIsNoCluster(t *testing.T) {
	run := opened(t, 100)
	for _, line := range []string{
		"integrator list", "integrator create x --allow pods.shop.> --out " + t.TempDir() + "/x.nk", "integrator delete x", "secrets rotate",
		"events --to http://127.0.0.1:1/", "events dead-letters list", "checkpoint", "checkpoint --key",
	} {
		out, err := run(line)
		if err == nil || !strings.Contains(err.Error(), "this is the archive ") || !strings.Contains(err.Error(), "ask the cluster") || out != "" {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}

// A name that never was is not answered with "nothing".
func TestWhatNeverWas(t *testing.T) {
	run := opened(t, 300)
	for line, want := range map[string]string{
		"history -n nosuch":        "nothing happened in the namespace nosuch: there never was",
		"events -n nosuch":         "nothing happened in the namespace nosuch: there never was",
		"diff --from @1 -n nosuch": "nothing happened in the namespace nosuch: there never was",
		"why @999":                 "there is no event 999: the log goes from sequence 1 to 300",
		"why 10:42":                "\"10:42\" is a moment, and no object",
		"diff --from @1 @20":       "\"@20\" is a moment, and no object",
		"history 12345":            "\"12345\" is a moment, and no object",
		"history nosuch":           "there never was an object or a kind",
		"history -A --user nosuch": "nothing was ever done for a user \"nosuch\"; lately it was for ",
		"events --user nosuch":     "nothing was ever done for a user \"nosuch\"; lately it was for ",
		"events --actor nosuch":    "nothing was ever written by an actor \"nosuch\"; lately it was by ",
		"events --resource nosuch": "there never was a resource \"nosuch\"; the log has ",
		"events --from @999":       "there is no event 999 yet: the log goes from sequence 1 ",
	} {
		out, err := run(line)
		if err == nil || !strings.Contains(err.Error(), want) || strings.HasSuffix(err.Error(), "at that sequence") || strings.Contains(out, "nothing is different") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	// A server that is not asked says nothing about what was.
	nc, _ := nats.Connect("nats://127.0.0.1:1", nats.RetryOnFailedConnect(true))
	nc.Close()
	gone := historian.NewClient(nc, subjectPrefix)
	if _, err := new(selection).find(t.Context(), gone, "12345"); err == nil || !strings.Contains(err.Error(), "asking the server") {
		t.Errorf("find: %v", err)
	}
	if err := nothingIn(t.Context(), gone, "shop"); err == nil || strings.Contains(err.Error(), "nothing happened") {
		t.Errorf("nothingIn: %v", err)
	}
	// Who did something, and not that, is another matter.
	if out, err := run("history -A --actor scheduler --type node.created"); err != nil || !strings.Contains(out, "There is no such event.") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The shell proposes what the history has.
func TestProposals(t *testing.T) {
	run := opened(t, 300)
	for line, want := range map[string]string{
		"history no": "nodes\n:6\n", "why nodes/": "nodes/", "diff pods/ -n nosuch pods/": ":4\n",
		"history --user ": "system:", "events --actor sch": "scheduler\n", "events --resource po": "pods\n", "history nodes/x ": ":4\n",
	} {
		if out, err := run("__complete " + line); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}
