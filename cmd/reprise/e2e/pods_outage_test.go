//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// bystander is a pod that must go on unchanged through whatever befalls the
// cluster.
type bystander struct{ namespace, name, before string }

func (b *bystander) now(c *cluster) string {
	return c.kubectl("-n", b.namespace, "get", "pod", b.name, "-o",
		`jsonpath={.status.phase} {range .status.containerStatuses[*]}{.containerID} {.restartCount} {.state} {end}`)
}

// stand starts the bystanders: of each kind of pod, and of each way to end.
func stand(t *testing.T, c *cluster) (all []*bystander) {
	s := c.space(t, "bystanders")
	s.create(`
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  initContainers: [{name: side, image: "reprise.run/demo:1", restartPolicy: Always, command: [sleep, "100000"]}]
  containers:
  - {name: web, image: "reprise.run/demo:1", livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 30}, readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}}
  - {name: idle, image: "reprise.run/demo:1", command: [sleep, "100000"]}
---
{apiVersion: v1, kind: Pod, metadata: {name: ill}, spec: {restartPolicy: Never, containers: [{name: a, image: "reprise.run/demo:1", command: [sh, -c, "exit 3"]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: well}, spec: {restartPolicy: OnFailure, containers: [{name: a, image: "reprise.run/demo:1", command: ["true"]}]}}
`)
	s.waits("pod/web", "--for=condition=Ready")
	s.until("ill", ".status.phase", "Failed")
	s.until("well", ".status.phase", "Succeeded")
	for _, name := range []string{"web", "ill", "well"} {
		b := &bystander{namespace: s.name, name: name}
		b.before = b.now(s.cluster)
		all = append(all, b)
	}
	return all
}

func unchanged(t *testing.T, c *cluster, all []*bystander) {
	t.Helper()
	for _, b := range all {
		if now := b.now(c); now != b.before {
			t.Errorf("pod %s/%s has changed from\n%s\nto\n%s", b.namespace, b.name, b.before, now)
		}
	}
}

// leaving are pods that end when they are told to, by the file of a hostPath.
func leaving(s *space, dir string) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: leaves}
spec:
  restartPolicy: Never
  volumes: [{name: dir, hostPath: {path: ` + dir + `}}]
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sh, -c, "while ! [ -f /dir/go ]; do sleep 0.1; done; exit 42"], volumeMounts: [{name: dir, mountPath: /dir}]}
---
apiVersion: v1
kind: Pod
metadata: {name: returns}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: dir, hostPath: {path: ` + dir + `}}]
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sh, -c, "while ! [ -f /dir/go ] || [ -f /dir/gone ]; do sleep 0.1; done; touch /dir/gone; exit 43"], volumeMounts: [{name: dir, mountPath: /dir}]}
`)
}

// tellToGo makes those pods end, and waits until their processes have.
func tellToGo(s *space, dir string, ids []string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the containers have ended", func() error {
		for _, id := range ids {
			if left := processes(s.t, id); len(left) > 0 {
				return fmt.Errorf("%s has processes %v", id, left)
			}
		}
		return nil
	})
}

// haveGone checks that the ends of those pods are told as they were.
func haveGone(s *space) {
	s.t.Helper()
	s.until("leaves", ".status.phase", "Failed")
	s.has("leaves", "42 0", ".status.containerStatuses[0].state.terminated.exitCode", ".status.containerStatuses[0].restartCount")
	s.until("returns", ".status.containerStatuses[0].restartCount", "1")
	s.waits("pod/returns", "--for=condition=Ready")
	s.has("returns", "43", ".status.containerStatuses[0].lastState.terminated.exitCode")
}

func ids(s *space) []string {
	s.t.Helper()
	return strings.Fields(s.field("leaves", ".status.containerStatuses[0].containerID") + " " + s.field("returns", ".status.containerStatuses[0].containerID"))
}

// testKilledRuntime kills containerd, has containers end while it is away, and
// finds that no other is disturbed and that all is told.
func testKilledRuntime(t *testing.T, c *cluster, settled []*bystander) {
	s := c.space(t, "runtime")
	dir := t.TempDir()
	leaving(s, dir)
	gone := ids(s)
	pid := containerd(t, c)
	// It is stopped first, so that nothing starts it again before the containers
	// have ended.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tellToGo(s, dir, gone)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	haveGone(s)
	s.create(strings.Replace(shell, "name: p", "name: after", 1))
	s.waits("pod/after", "--for=condition=Ready")
	if now := containerd(t, c); now == pid {
		t.Errorf("containerd is still process %d", pid)
	}
	unchanged(t, s.cluster, settled)
}

// containerd finds the process of the cluster's containerd.
func containerd(t *testing.T, c *cluster) int {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		args := strings.Split(read(t, path), "\x00")
		if filepath.Base(args[0]) == "containerd" && strings.Contains(strings.Join(args, " "), c.run+"/") {
			pid, err := strconv.Atoi(strings.Split(path, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal(errors.New("no containerd runs for " + c.run))
	return 0
}

// testRestartedServer stops the server, has containers end while it is away, and
// finds that no other is disturbed and that all is told.
func testRestartedServer(t *testing.T, c *cluster, settled []*bystander) {
	s := c.space(t, "server")
	dir := t.TempDir()
	leaving(s, dir)
	gone := ids(s)
	s.stop()
	tellToGo(s, dir, gone)
	s.start()
	c.process, c.exited, c.output = s.process, s.exited, s.output
	haveGone(s)
	s.create(strings.Replace(shell, "name: p", "name: after", 1))
	s.waits("pod/after", "--for=condition=Ready")
	unchanged(t, s.cluster, settled)
	s.mentions("reprise history", s.must("reprise", "history", "pods/"+s.name+"/leaves"), "container.exited", "42", "pod.failed")
}
