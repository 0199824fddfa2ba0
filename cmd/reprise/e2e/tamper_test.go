//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTamperEvidence plays an auditor, who takes a checkpoint away and comes back:
// beside the running server, with the server stopped, and after somebody has altered
// what happened.
func TestTamperEvidence(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	c := unstarted(t)
	c.up = []string{"--checkpoints", elsewhere, "--checkpoint-events", "50"}
	c.start()
	auditor := t.TempDir()
	checkpoint, key := filepath.Join(auditor, "checkpoint"), filepath.Join(auditor, "verifier")
	keep := func(path string, args ...string) string {
		out := c.must("reprise", args...)
		check(t, os.WriteFile(path, []byte(out), 0o600))
		return out
	}
	c.kubectl("create", "configmap", "evidence", "--from-literal=who=mallory")
	if out := keep(checkpoint, "checkpoint"); !strings.Contains(out, "\n— reprise.run/log/") {
		t.Errorf("reprise checkpoint printed:\n%s", out)
	}
	keep(key, "checkpoint", "--key")
	c.kubectl("create", "configmap", "later")
	verify := func(dir string, args ...string) (string, error) {
		return c.reprise(append([]string{"--data-dir", dir, "verify", "--checkpoint", checkpoint, "--key", key}, args...)...)
	}
	out, err := verify(c.dir, "--checkpoint", elsewhere)
	if err != nil || !strings.Contains(out, "identical") || !strings.Contains(out, "recorded in the log agree") {
		t.Errorf("beside the running server: %v\n%s", err, out)
	}
	if out := c.must("reprise", "history", "--type", "checkpoint.*"); !strings.Contains(out, "notary") {
		t.Errorf("the log records no checkpoint:\n%s", out)
	}
	if out, err := verify(c.dir, "--offline"); err == nil || !strings.Contains(out, "leave out --offline") {
		t.Errorf("--offline beside a server: %v\n%s", err, out)
	}
	c.eventually("the log is at rest", c.atRest())
	event := regexp.MustCompile(`seq (\d+)`).FindStringSubmatch(c.must("reprise", "history", "configmaps/default/evidence", "-o", "text"))
	if event == nil {
		t.Fatal("the history does not say at which sequence the ConfigMap was made")
	}
	flip := flipper(t, filepath.Join(c.dir, "log", "jetstream", "$G", "streams", "REPRISE", "msgs", "1.blk"), "mallory")
	flip()
	if out, err := verify(c.dir); err == nil || !strings.Contains(out, "the first bad sequence is "+event[1]+":") {
		t.Errorf("event %s was altered beside the running server: %v\n%s", event[1], err, out)
	}
	flip()
	if out, err := verify(c.dir); err != nil {
		t.Errorf("beside the running server, with the bit put back: %v\n%s", err, out)
	}
	c.stop()
	if out, err := verify(c.dir, "--offline"); err != nil || !strings.Contains(out, "identical") {
		t.Errorf("without a server: %v\n%s", err, out)
	}
	if out, err := verify(c.dir); err == nil || !strings.Contains(out, "say --offline") {
		t.Errorf("without a server and --offline: %v\n%s", err, out)
	}

	evidence := t.TempDir()
	for _, part := range []string{"log", "projection", "proof"} {
		check(t, os.CopyFS(filepath.Join(evidence, part), os.DirFS(filepath.Join(c.dir, part))))
	}
	rewrite(t, filepath.Join(evidence, "log", "jetstream", "$G", "streams", "REPRISE", "msgs"), "1.blk", func(b []byte) []byte {
		if !bytes.Contains(b, []byte("mallory")) {
			t.Fatal("the block does not say who it was")
		}
		return bytes.Replace(b, []byte("mallory"), []byte("malice!"), 1)
	})
	out, err = verify(evidence, "--offline")
	if err == nil || !strings.Contains(out, "the first bad sequence is "+event[1]+":") {
		t.Fatalf("event %s was altered: %v\n%s", event[1], err, out)
	}
	check(t, os.RemoveAll(filepath.Join(evidence, "log")))
	check(t, os.CopyFS(filepath.Join(evidence, "log"), os.DirFS(filepath.Join(c.dir, "log"))))
	if out, err := verify(evidence, "--offline"); err != nil {
		t.Errorf("with the log as it was: %v\n%s", err, out)
	}

	// A cluster that is begun anew in the same place begins a log, and a key, anew.
	if out := c.must("reprise", "down", "--purge"); strings.Contains(out, "stays") {
		t.Errorf("something is left:\n%s", out)
	}
}

// flipper returns what flips a bit of a word in a file to which others append.
func flipper(t *testing.T, path, word string) func() {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	at := bytes.Index(content, []byte(word))
	if at < 0 {
		t.Fatalf("%s does not say %q", path, word)
	}
	b := content[at : at+1]
	return func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		check(t, err)
		defer f.Close()
		b[0] ^= 1
		_, err = f.WriteAt(b, int64(at))
		check(t, err)
	}
}
