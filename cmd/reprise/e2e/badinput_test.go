//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// refused runs reprise and checks that it gives up soon, with one sentence that
// has these parts.
func (c *cluster) refused(cmd *exec.Cmd, parts ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	out, err := cmd.CombinedOutput()
	if err == nil {
		c.t.Errorf("%v succeeded:\n%s", cmd.Args, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	message := lines[len(lines)-1]
	if !strings.HasPrefix(message, "reprise: ") || strings.Contains(string(out), "level=") {
		c.t.Errorf("%v ended with something else than a message of ours:\n%s", cmd.Args, out)
	}
	for _, part := range parts {
		if !strings.Contains(message, part) {
			c.t.Errorf("%v does not say %q:\n%s", cmd.Args, part, out)
		}
	}
}

// TestRefusedStart gives `reprise up` what it cannot work with.
func TestRefusedStart(t *testing.T) {
	c := unstarted(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(c.run, strings.Repeat("x", 90))
	for name, test := range map[string]struct{ args, says []string }{
		"unknown flag":                {[]string{"up", "--frobnicate"}, []string{"--frobnicate"}},
		"unknown command":             {[]string{"pu"}, []string{`"pu"`, "reprise --help"}},
		"a file for a data directory": {[]string{"up", "--data-dir", file}, []string{file, "--data-dir"}},
		"below a file":                {[]string{"up", "--data-dir", filepath.Join(file, "below")}, []string{file, "--data-dir"}},
		"long run directory":          {[]string{"up", "--run-dir", long}, []string{long, "too long", "shorter"}},
		"bad node name":               {[]string{"up", "--node", "A_b!"}, []string{"--node", "A_b!"}},
		"bad log level":               {[]string{"up", "--log-level", "loud"}, []string{"--log-level", "loud"}},
		"no port":                     {[]string{"up", "--listen", "nonsense"}, []string{"nonsense", "missing port"}},
		"another machine's address":   {[]string{"up", "--listen", "192.0.2.1:6443"}, []string{"192.0.2.1:6443", "assign"}},
		"no port for NATS":            {[]string{"up", "--nats-listen", "nonsense"}, []string{"--nats-listen", "nonsense"}},
	} {
		t.Run(name, func(t *testing.T) { c.in(t).refused(c.command("reprise", test.args...), test.says...) })
	}
	t.Run("not root", func(t *testing.T) {
		for _, command := range []string{"up", "down"} {
			cmd := c.command("reprise", command)
			asNobody(cmd)
			c.in(t).refused(cmd, "root", "sudo")
		}
	})
	for name, address := range map[string]string{"API": "127.0.0.1:6443", "NATS": "127.0.0.1:4222"} {
		t.Run("the port of "+name+" is taken", func(t *testing.T) {
			var l net.Listener
			// A program that the last server began to run may still hold its port.
			c.in(t).eventually("the port is free", func() (err error) {
				l, err = net.Listen("tcp", address)
				return err
			})
			defer l.Close()
			c.refused(c.command("reprise", "up"), address, "ss -ltnp", "another")
		})
	}
	c.eventually("nothing runs that a refused start began to run", func() error {
		if left := processesOf(c); len(left) > 0 {
			return fmt.Errorf("there are %q", left)
		}
		return nil
	})
}

// TestMissingTool takes away each of the programs that a node needs.
func TestMissingTool(t *testing.T) {
	c := unstarted(t)
	for _, tool := range []string{"bin/containerd", "bin/containerd-shim-runc-v2", "bin/runc", "cni/ptp", "images/pause.tar"} {
		t.Run(filepath.Base(tool), func(t *testing.T) {
			installed := t.TempDir()
			for _, dir := range []string{"bin", "cni", "images"} {
				linkAll(t, filepath.Dir(binaries()), dir, installed, tool)
			}
			cmd := c.command("reprise", "up")
			cmd.Path = filepath.Join(installed, "bin", "reprise")
			c.in(t).refused(cmd, filepath.Base(tool), "`make ")
		})
	}
}

// TestOneServer starts a second server where one runs.
func TestOneServer(t *testing.T) {
	c := newCluster(t)
	c.refused(c.command("reprise", "up"), c.dir, "server runs", "--data-dir")
	c.refused(c.command("reprise", "down"), c.dir, "stop it first")
	c.refused(c.command("reprise", "up", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:7443", "--nats-listen", "127.0.0.1:7422"),
		c.run, "--run-dir")
	c.kubectl("get", "namespace", "default")
}

// TestInvalidManifest shows that what the gate refuses is refused as upstream
// does, and leaves no trace in the log.
func TestInvalidManifest(t *testing.T) {
	c := newCluster(t)
	c.must("kubectl", "create", "namespace", "shop")
	before := c.commands()
	const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %NAME%}
spec:
  replicas: %REPLICAS%
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: %APP%}}
    spec: {containers: [{name: web, image: "reprise.run/demo:1"%MORE%}]}
`
	manifest := func(name, replicas, app, more string) string {
		return strings.NewReplacer("%NAME%", name, "%REPLICAS%", replicas, "%APP%", app, "%MORE%", more).Replace(deployment)
	}
	for name, test := range map[string]struct{ manifest, says string }{
		"selector": {manifest("web", "1", "other", ""),
			`The Deployment "web" is invalid: spec.template.metadata.labels: Invalid value: {"app":"other"}: ` + "`selector` does not match template `labels`"},
		"name": {manifest("Web_1", "1", "web", ""),
			`The Deployment "Web_1" is invalid: metadata.name: Invalid value: "Web_1": a lowercase RFC 1123 subdomain must consist of`},
		"negative": {manifest("web", "-1", "web", ""),
			`The Deployment "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0`},
		"type": {manifest("web", "many", "web", ""),
			`json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`},
		"unknown field": {manifest("web", "1", "web", ", imag: x"),
			`strict decoding error: unknown field "spec.template.spec.containers[0].imag"`},
		"unknown kind": {"apiVersion: v1\nkind: Wizard\nmetadata: {name: merlin}\n",
			`no matches for kind "Wizard" in version "v1"`},
		"no such namespace": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}\n",
			`namespaces "nowhere" not found`},
		"no YAML": {"kind: [", "error"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := c.feed(strings.NewReader(test.manifest), "kubectl", "apply", "-f", "-")
			if err == nil || !strings.Contains(out, test.says) {
				t.Errorf("kubectl apply printed, with error %v:\n%s\nand should print:\n%s", err, out, test.says)
			}
		})
	}
	if after := c.commands(); after != before {
		t.Errorf("refused manifests have appended to the log.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}
