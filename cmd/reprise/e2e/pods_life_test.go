//go:build e2e

package e2e

import (
	"errors"
	"strings"
	"testing"
)

// testInit shows init containers: in order, tried again, and failing for good.
func testInit(t *testing.T, s *space) {
	s.create(`
apiVersion: v1
kind: Pod
metadata: {name: order}
spec:
  restartPolicy: Never
  volumes: [{name: out, emptyDir: {}}]
  initContainers:
  - {name: one, image: "reprise.run/demo:1", command: [sh, -c, "sleep 1; echo one >> /out/order"], volumeMounts: [{name: out, mountPath: /out}]}
  - {name: two, image: "reprise.run/demo:1", command: [sh, -c, "echo two >> /out/order"], volumeMounts: [{name: out, mountPath: /out}]}
  containers:
  - {name: main, image: "reprise.run/demo:1", command: [cat, /out/order], volumeMounts: [{name: out, mountPath: /out}]}
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  restartPolicy: OnFailure
  volumes: [{name: out, emptyDir: {}}]
  initContainers:
  - {name: one, image: "reprise.run/demo:1", command: [sh, -c, "test -f /out/tried || { touch /out/tried; exit 4; }"], volumeMounts: [{name: out, mountPath: /out}]}
  containers:
  - {name: main, image: "reprise.run/demo:1", command: ["true"]}
---
apiVersion: v1
kind: Pod
metadata: {name: never}
spec:
  restartPolicy: Never
  initContainers: [{name: one, image: "reprise.run/demo:1", command: [sh, -c, "exit 5"]}]
  containers: [{name: main, image: "reprise.run/demo:1", command: ["true"]}]
`)
	s.until("order", ".status.phase", "Succeeded")
	if out := s.kubectl("logs", "order", "-c", "main"); out != "one\ntwo\n" {
		t.Errorf("the order was %q", out)
	}
	s.has("order", "Completed Completed", ".status.initContainerStatuses[*].state.terminated.reason")
	s.until("again", ".status.phase", "Succeeded")
	s.has("again", "1 0", ".status.initContainerStatuses[0].restartCount", ".status.initContainerStatuses[0].state.terminated.exitCode")
	s.until("never", ".status.phase", "Failed")
	s.has("never", "5 PodInitializing", ".status.initContainerStatuses[0].state.terminated.exitCode", ".status.containerStatuses[0].state.waiting.reason")
	s.mentions("kubectl get", s.kubectl("get", "pod", "never"), "Init:Error")
}

// testSidecars shows sidecars that start before the pod's containers, start again
// when they end, and end after them, in the opposite order.
func testSidecars(t *testing.T, s *space) {
	sidecar := func(name string) string {
		return `
  - name: ` + name + `
    image: reprise.run/demo:1
    restartPolicy: Always
    command:
    - sh
    - -c
    - |
      trap 'echo ` + name + ` ends >> /out/order; exit 0' TERM
      echo ` + name + ` starts >> /out/order
      while :; do sleep 0.1; [ -f /out/end-` + name + ` ] && rm /out/end-` + name + ` && exit 9; done
    volumeMounts: [{name: out, mountPath: /out}]
    startupProbe: {exec: {command: [test, -f, /out/order]}, periodSeconds: 1, timeoutSeconds: 30}`
	}
	dir := t.TempDir()
	s.create(`
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  volumes: [{name: out, hostPath: {path: ` + dir + `}}]
  initContainers:` + sidecar("first") + sidecar("second") + `
  containers:
  - name: main
    image: reprise.run/demo:1
    command: [sh, -c, "echo main starts >> /out/order; while ! [ -f /out/done ]; do sleep 0.1; done; echo main ends >> /out/order"]
    volumeMounts: [{name: out, mountPath: /out}]
`)
	s.waits("pod/job", "--for=condition=Ready")
	s.kubectl("exec", "job", "-c", "main", "--", "touch", "/out/end-second")
	s.until("job", ".status.initContainerStatuses[1].restartCount", "1")
	s.until("job", ".status.initContainerStatuses[1].started", "true")
	s.has("job", "9", ".status.initContainerStatuses[1].lastState.terminated.exitCode")
	s.kubectl("exec", "job", "-c", "main", "--", "touch", "/out/done")
	s.until("job", ".status.phase", "Succeeded")
	want := "first starts\nsecond starts\nmain starts\nsecond starts\nmain ends\nsecond ends\nfirst ends\n"
	if got := read(t, dir, "order"); got != want {
		t.Errorf("the order was\n%swant\n%s", got, want)
	}
}

// testImageChange gives a pod that runs another image.
func testImageChange(t *testing.T, s *space) {
	s.ready(shell)
	s.kubectl("set", "image", "pod/p", "a=reprise.run/demo:2")
	s.until("p", ".status.containerStatuses[0].restartCount", "1")
	s.waits("pod/p", "--for=condition=Ready")
	s.has("p", "reprise.run/demo:2 137", ".status.containerStatuses[0].image", ".status.containerStatuses[0].lastState.terminated.exitCode")
	s.says("p", "wget -q -O - http://127.0.0.1:8080/", "Hello from demo 2 on p")
}

// testRestarts shows restart policies, phases and the back-off.
func testRestarts(t *testing.T, s *space) {
	pod := func(name, policy, script string) string {
		return `
---
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `}
spec:
  restartPolicy: ` + policy + `
  volumes: [{name: out, emptyDir: {}}]
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sh, -c, "` + script + `"], volumeMounts: [{name: out, mountPath: /out}]}
`
	}
	s.create(pod("well", "Never", "exit 0") +
		pod("ill", "Never", "echo last words > /dev/termination-log; exit 3") +
		pod("better", "OnFailure", "test -f /out/tried || { touch /out/tried; exit 1; }") +
		pod("crash", "Always", "exit 8") +
		pod("always", "Always", "exit 0") + `
---
apiVersion: v1
kind: Pod
metadata: {name: chatty}
spec:
  restartPolicy: Never
  containers: [{name: a, image: "reprise.run/demo:1", terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, "echo out of coffee; exit 1"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 2
  terminationGracePeriodSeconds: 1
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}]
`)
	s.until("well", ".status.phase", "Succeeded")
	s.has("well", "0 0 Completed", ".status.containerStatuses[0].restartCount",
		".status.containerStatuses[0].state.terminated.exitCode", ".status.containerStatuses[0].state.terminated.reason")
	s.until("ill", ".status.phase", "Failed")
	s.has("ill", "0 3 Error last words\n", ".status.containerStatuses[0].restartCount", ".status.containerStatuses[0].state.terminated.exitCode",
		".status.containerStatuses[0].state.terminated.reason", ".status.containerStatuses[0].state.terminated.message")
	s.until("chatty", ".status.phase", "Failed")
	s.has("chatty", "out of coffee\n", ".status.containerStatuses[0].state.terminated.message")
	s.until("better", ".status.phase", "Succeeded")
	s.has("better", "1 1", ".status.containerStatuses[0].restartCount", ".status.containerStatuses[0].lastState.terminated.exitCode")
	s.until("late", ".status.reason", "DeadlineExceeded")
	s.has("late", "Failed", ".status.phase")
	for pod, code := range map[string]string{"crash": "8", "always": "0"} {
		s.until(pod, ".status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff")
		s.has(pod, "Running "+code, ".status.phase", ".status.containerStatuses[0].lastState.terminated.exitCode")
		s.was(pod, "back-off 10s restarting failed container=a pod="+pod+"_")
	}
	s.eventually("kubectl get tells how they are", func() error {
		out, err := s.try("get", "pods")
		if err == nil && !containsAll(out, "CrashLoopBackOff", "Completed", "Error") {
			err = errors.New(out)
		}
		return err
	})
	// The back-off ends some time, and the next is longer.
	s.until("crash", ".status.containerStatuses[0].restartCount", "2")
	s.until("crash", ".status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff")
	s.was("crash", "back-off 20s")

	// Whatever people do to a pod that has ended, it stays so.
	s.kubectl("label", "pod", "ill", "well", "touched=yes")
	s.has("ill", "Failed", ".status.phase")
	s.has("well", "Succeeded", ".status.phase")
	if out, err := s.try("exec", "well", "--", "true"); err == nil || !strings.Contains(out, "completed pod") {
		t.Errorf("exec in a pod that has ended: %v %s", err, out)
	}
}
