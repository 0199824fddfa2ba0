//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testHooks shows postStart and preStop hooks of each kind. Those by HTTP ask a
// server of the test's own.
func testHooks(t *testing.T, s *space) {
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " " + r.Header.Get("X-From")
	}))
	defer server.Close()
	host, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	dir := t.TempDir()
	s.create(`
apiVersion: v1
kind: Pod
metadata: {name: command}
spec:
  terminationGracePeriodSeconds: 600
  volumes: [{name: out, hostPath: {path: ` + dir + `}}]
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sh, -c, "trap 'echo term >> /out/order; exit 0' TERM; while :; do sleep 0.1; done"]
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo start >> /out/order"]}}
      preStop: {exec: {command: [sh, -c, "echo stop >> /out/order; sleep 1; echo stopped >> /out/order"]}}
    volumeMounts: [{name: out, mountPath: /out}]
---
apiVersion: v1
kind: Pod
metadata: {name: request}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - name: a
    image: reprise.run/demo:1
    lifecycle:
      postStart: {httpGet: {host: ` + host + `, port: ` + port + `, path: /start, httpHeaders: [{name: X-From, value: shop}]}}
      preStop: {httpGet: {host: ` + host + `, port: ` + port + `, path: /stop}}
---
apiVersion: v1
kind: Pod
metadata: {name: pause}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - {name: a, image: "reprise.run/demo:1", lifecycle: {postStart: {sleep: {seconds: 1}}, preStop: {sleep: {seconds: 3}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: failing}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: a, image: "reprise.run/demo:1", lifecycle: {postStart: {exec: {command: ["false"]}}}}]
`)
	s.waits("pod/command", "pod/request", "pod/pause", "--for=condition=Ready")
	began := time.Now()
	s.kubectl("delete", "pod", "command", "request", "pause")
	if took := time.Since(began); took < 3*time.Second || took > patience {
		t.Errorf("to delete a pod whose preStop hook waits 3s of 600s took %s", took)
	}
	if got := read(t, dir, "order"); got != "start\nstop\nstopped\nterm\n" {
		t.Errorf("the order was\n%s", got)
	}
	if start, stop := <-asked, <-asked; start != "/start shop" || stop != "/stop " {
		t.Errorf("the hooks asked for %q and %q", start, stop)
	}
	s.tellsSoon("failing", waiting, "CrashLoopBackOff", "postStart", "false")
}

// testTermination shows how containers end: asked first, made to when their
// grace is over, and the pod gone only then.
func testTermination(t *testing.T, s *space) {
	dir := t.TempDir()
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: polite}
spec:
  terminationGracePeriodSeconds: 600
  volumes: [{name: out, hostPath: {path: ` + dir + `}}]
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sh, -c, "trap 'sleep 1; echo polite > /out/polite; exit 0' TERM; while :; do sleep 0.1; done"]
    volumeMounts: [{name: out, mountPath: /out}]
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn, finalizers: [example.org/look]}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sh, -c, "trap 'echo no' TERM; while :; do sleep 0.1; done"]}
---
apiVersion: v1
kind: Pod
metadata: {name: hurried}
spec:
  terminationGracePeriodSeconds: 600
  containers: [{name: a, image: "reprise.run/demo:1", command: [sh, -c, "trap '' TERM; while :; do sleep 0.1; done"]}]
`)
	began := time.Now()
	s.kubectl("delete", "pod", "polite")
	if took := time.Since(began); took < time.Second || took > patience || read(t, dir, "polite") != "polite\n" {
		t.Errorf("a pod that ends in a second took %s, and left %q", took, read(t, dir, "polite"))
	}

	// The finalizer keeps the pod from going, so that one sees how it ended.
	began = time.Now()
	s.kubectl("delete", "pod", "stubborn", "--wait=false")
	s.mentions("kubectl get", s.kubectl("get", "pod", "stubborn"), "Terminating")
	s.waits("pod/stubborn", "--for=condition=Ready=false")
	s.until("stubborn", ".status.containerStatuses[0].state.terminated.exitCode", "137")
	// What it would have by default is 30s.
	if took := time.Since(began); took < 2*time.Second || took > 25*time.Second {
		t.Errorf("a pod that ignores the request took %s to end, and has 3s", took)
	}
	s.until("stubborn", ".status.phase", "Failed")
	s.kubectl("patch", "pod", "stubborn", "--type=json", "-p", `[{"op":"remove","path":"/metadata/finalizers"}]`)
	s.waits("pod/stubborn", "--for=delete")

	// A second request may shorten the grace of the first.
	began = time.Now()
	s.kubectl("delete", "pod", "hurried", "--wait=false")
	s.kubectl("delete", "pod", "hurried", "--grace-period=1")
	if took := time.Since(began); took > patience {
		t.Errorf("a pod that was asked again, with a grace of 1s, took %s", took)
	}
}

// processes are those of a container of the cluster.
func processes(t *testing.T, containerID string) (pids []string) {
	t.Helper()
	id := strings.TrimPrefix(containerID, "containerd://")
	found, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil || id == "" {
		t.Fatalf("container id %q: %v", id, err)
	}
	for _, path := range found {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), id) {
			pids = append(pids, strings.Split(path, "/")[2])
		}
	}
	return pids
}

// testForceDelete shows that a pod deleted by force is gone at once, and its
// processes soon after.
func testForceDelete(t *testing.T, s *space) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 600
  containers: [{name: a, image: "reprise.run/demo:1", command: [sh, -c, "trap '' TERM; while :; do sleep 0.1; done"]}]
`)
	id := s.field("p", ".status.containerStatuses[0].containerID")
	if len(processes(t, id)) == 0 {
		t.Fatalf("no process is in the cgroup of container %s", id)
	}
	out := s.kubectl("delete", "pod", "p", "--force", "--grace-period=0")
	s.mentions("kubectl", out, "force deleted")
	if out, err := s.try("get", "pod", "p"); err == nil {
		t.Errorf("the pod is still there:\n%s", out)
	}
	s.eventually("the container's processes end", func() error {
		if left := processes(t, id); len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
}
