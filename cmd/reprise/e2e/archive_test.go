//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchive exports the history of a cluster, ends the cluster, and asks the
// archives what happened.
func TestArchive(t *testing.T) {
	c := newCluster(t)
	web := filepath.Join("testdata", "manifests", "web.yaml")
	c.kubectl("apply", "-f", web)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	c.kubectl("create", "secret", "generic", "hidden", "--from-literal=word=open-sesame")
	c.eventually("the log is at rest", c.atRest())
	middle := c.newest()
	c.kubectl("scale", "deployment/web", "--replicas=4")
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	c.eventually("the log is at rest", c.atRest())
	dir := t.TempDir()
	all, part, stopped := filepath.Join(dir, "all.reprise"), filepath.Join(dir, "part.reprise"), filepath.Join(dir, "stopped.reprise")
	history := c.must("reprise", "history", "deployments.apps/default/web")

	key, held := filepath.Join(dir, "key"), filepath.Join(dir, "held")
	check(t, os.WriteFile(key, []byte(c.must("reprise", "checkpoint", "--key")), 0o600))
	check(t, os.WriteFile(held, []byte(c.must("reprise", "checkpoint")), 0o600))
	c.must("reprise", "export", all)
	c.must("reprise", "export", "--from", "@"+middle, part)
	c.exportRefuses(t, all)
	piped := c.command("reprise", "export", "-")
	content, err := piped.Output()
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "piped.reprise"), content, 0o600))
	c.stop()
	c.must("reprise", "export", "--offline", stopped)

	for _, file := range []string{all, stopped, filepath.Join(dir, "piped.reprise")} {
		if got := c.must("reprise", "open", file, "--", "reprise", "history", "deployments.apps/default/web"); !strings.Contains(got, history) {
			t.Errorf("%s tells:\n%s\nand the cluster told:\n%s", filepath.Base(file), got, history)
		}
	}
	c.asks(t, part, middle)
	c.proves(t, all, part, key, held)
	c.openRefuses(t, all)
}

// exportRefuses shows that a file that is there is kept, and that what fails leaves
// none.
func (c *cluster) exportRefuses(t *testing.T, there string) {
	before, err := os.ReadFile(there)
	check(t, err)
	c.refused(c.command("reprise", "export", there), "is there already", "--force")
	c.refused(c.command("reprise", "export", filepath.Join(filepath.Dir(there), "no", "dir")), "cannot write to the directory")
	c.refused(c.command("reprise", "export", "--from", "@999999", there+".new"), "there is no event 999999 yet")
	c.refused(c.command("reprise", "export", "--from", "@20", "--to", "@10", there+".new"), "would be empty")
	if after, err := os.ReadFile(there); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file that was there is another now: %v", err)
	}
	c.must("reprise", "export", "--force", there)
	files, err := os.ReadDir(filepath.Dir(there))
	check(t, err)
	if len(files) != 4 {
		t.Errorf("there are other files than two archives, a key and a checkpoint: %v", files)
	}
}

// asks puts the questions to an archive of what came from a sequence on.
func (c *cluster) asks(t *testing.T, part, from string) {
	script := `
reprise history deployments.apps/default/web
reprise why pods/default/$(reprise events --filter pod.bound | grep -o 'web-[a-z0-9]*-[a-z0-9]*' | head -1)
reprise diff --from @` + from + ` --to now
reprise rewind @` + from + ` -- kubectl get deployment web -o 'jsonpath={"then "}{.spec.replicas}{"\n"}'
reprise rewind now -- kubectl get deployment web -o 'jsonpath={"in the end "}{.spec.replicas}{"\n"}'
reprise rewind @` + from + ` -- kubectl get pods,nodes -A -o wide
reprise rewind now -- kubectl get secret hidden -o yaml
reprise kubectl scale deployment/web --replicas=1 2>&1 || true
`
	opened := t.TempDir() // TMPDIR, so that what is left can be told from what others leave
	cmd := c.command("reprise", "open", part, "--", "bash", "-euxo", "pipefail", "-c", script)
	cmd.Env = append(cmd.Env, "TMPDIR="+opened)
	answer, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("reprise open: %v\n%s", err, answer)
	}
	out := string(answer)
	for _, want := range []string{"spec.replicas 3 -> 4", "deployment.scaled", "for admin", "+ pods/default/web-", "then 3", "in the end 4", "node/", "the past cannot be changed"} {
		if !strings.Contains(out, want) {
			t.Errorf("of %s an archive does not tell %q:\n%s", from, want, out)
		}
	}
	if word := base64.StdEncoding.EncodeToString([]byte("open-sesame")); !strings.Contains(out, "name: hidden") || strings.Contains(out, word) {
		t.Errorf("a Secret is not there, or its value can be read:\n%s", out)
	}
	if strings.Contains(out, "deployment.created") {
		t.Errorf("it tells of what was before it begins:\n%s", out)
	}
	if left, err := os.ReadDir(opened); err != nil || len(left) > 0 {
		t.Errorf("what was open is left: %v, %v", left, err)
	}
	var status *exec.ExitError
	if _, err := c.reprise("open", part, "--", "bash", "-c", "exit 7"); !errors.As(err, &status) || status.ExitCode() != 7 {
		t.Errorf("a command that ends with 7: %v", err)
	}
}

// proves verifies archives as an auditor does, where there is no cluster.
func (c *cluster) proves(t *testing.T, all, part, key, held string) {
	alone := func(args ...string) *exec.Cmd {
		cmd := c.command("reprise", append([]string{"--data-dir", t.TempDir(), "verify"}, args...)...)
		return cmd
	}
	for file, wants := range map[string][]string{
		all:  {"its own agrees: signed by", "1 held agree"},
		part: {"its own agrees: signed by", "1 held agree", "as the archive's writer says"},
	} {
		out, err := alone(file, "--key", key, "--checkpoint", held).CombinedOutput()
		for _, want := range wants {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("verify %s does not say %q: %v\n%s", filepath.Base(file), want, err, out)
			}
		}
		if out, err := alone(file).CombinedOutput(); err != nil || !strings.Contains(string(out), "--key tells") {
			t.Errorf("verify %s without a key: %v\n%s", filepath.Base(file), err, out)
		}
	}
	other := "reprise.run/log/000000000000+2fbd5b8a+AXd0eRjvVKYvBA3y7Vv8vQnk2fHnZ0UXZ1qCzCVeGkWU"
	if out, err := alone(all, "--key", other).CombinedOutput(); err == nil {
		t.Errorf("another key is taken:\n%s", out)
	}
	if out := c.must("reprise", "open", all, "--", "reprise", "verify"); !strings.Contains(out, "its own agrees") {
		t.Errorf("verify where an archive is open:\n%s", out)
	}
}

// openRefuses damages an archive.
func (c *cluster) openRefuses(t *testing.T, file string) {
	whole, err := os.ReadFile(file)
	check(t, err)
	bad := file + ".bad"
	open := func(content []byte, more ...string) *exec.Cmd {
		check(t, os.WriteFile(bad, content, 0o600))
		return c.command("reprise", append([]string{"open", bad}, append(more, "--", "reprise", "events")...)...)
	}
	cut := whole[:len(whole)*9/10]
	c.refused(open(cut), "is cut short", "the file ends there", "are whole", "--damaged-ok")
	flipped := bytes.Clone(whole)
	flipped[len(flipped)*9/10] ^= 1
	c.refused(open(flipped), "is damaged", "events 1 to")
	c.refused(open([]byte("#!/bin/sh\n")), "not an archive")
	out, err := open(cut, "--damaged-ok").CombinedOutput()
	if err != nil || !regexp.MustCompile(`answered from events 1 to \d+ alone`).Match(out) || !bytes.Contains(out, []byte("clusterrole.created")) {
		t.Errorf("the good part of a damaged archive: %v\n%s", err, out)
	}
}
