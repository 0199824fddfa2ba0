//go:build e2e

package node_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/events"
)

// TestLife follows a pod from its creation to its end, with a container killed
// from outside on the way.
func TestLife(t *testing.T) {
	c := newCluster(t)
	began := time.Now()
	ref := c.apply(`
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: demo
    image: reprise.run/demo:1
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, timeoutSeconds: 60}
    resources: {limits: {cpu: 500m, memory: 64Mi}}
`)
	pod := c.pod(ref, "ready", ready)
	t.Logf("ready after %s", time.Since(began))
	if pod.Status.PodIP == "" || pod.Status.QOSClass != v1.PodQOSGuaranteed {
		t.Errorf("status is %s", show(pod))
	}
	if answer := c.get("/containerLogs/default/web/demo"); !strings.Contains(answer, "8080") {
		t.Errorf("the log is %q", answer)
	}
	if out := c.exec(ref, "demo", "sh", "-c", "echo hello $HOSTNAME"); out != "hello web\n" {
		t.Errorf("exec says %q", out)
	}

	if body := c.forward(ref, 8080, "/"); !strings.Contains(body, "Hello from demo 1 on web") {
		t.Errorf("through the forwarded port comes %q", body)
	}

	c.kill(pod, 0)
	pod = c.pod(ref, "restarted", func(p *v1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
		t.Errorf("the end of the first attempt is %+v", last)
	}
	if answer := c.get("/containerLogs/default/web/demo?previous=true&tailLines=1"); answer == "" {
		t.Error("there is no log of the first attempt")
	}

	c.delete(ref, 2)
	c.pod(ref, "gone", gone)
	want := "pod.created pod.sandboxed container.started pod.ready container.exited pod.unready container.started pod.ready " +
		"pod.terminating container.exited pod.removed"
	if got := c.types(ref); got != want {
		t.Errorf("the history is\n%s, want\n%s", got, want)
	}
}

// TestRestart ends the agent, has containers end while it is away, and finds
// that all is told and nothing was disturbed.
func TestRestart(t *testing.T) {
	c := newCluster(t)
	dir := t.TempDir()
	calm := c.apply(`
kind: Pod
metadata: {name: calm}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: demo, image: "reprise.run/demo:1"}
`)
	job := c.apply(`
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  volumes: [{name: dir, hostPath: {path: ` + dir + `}}]
  containers:
  - name: work
    image: reprise.run/demo:1
    command: [sh, -c, "while ! [ -f /dir/go ]; do sleep 0.1; done; echo last words > /dev/termination-log; exit 7"]
    volumeMounts: [{name: dir, mountPath: /dir}]
`)
	before := c.pod(calm, "ready", ready)
	c.pod(job, "ready", ready)
	told := c.types(calm)
	c.stop()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.ended(job)
	c.start()
	pod := c.pod(job, "failed", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed })
	if end := pod.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 7 || end.Message != "last words\n" {
		t.Errorf("the job's end is %+v", end)
	}
	after := c.pod(calm, "ready", ready)
	if after.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID || c.types(calm) != told {
		t.Errorf("the other pod was disturbed: %s", c.types(calm))
	}
}

// TestInside shows what a container sees: variables, volumes, identity, and the
// order of init containers and sidecars.
func TestInside(t *testing.T) {
	c := newCluster(t)
	c.apply("{kind: ConfigMap, metadata: {name: conf}, data: {colour: blue}}")
	c.apply("{kind: Secret, metadata: {name: hidden}, stringData: {word: xyzzy}}")
	ref := c.apply(`
kind: Pod
metadata: {name: inside, labels: {app: test}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 2000, runAsUser: 1000, runAsNonRoot: true}
  volumes:
  - {name: conf, configMap: {name: conf}}
  - {name: hidden, secret: {secretName: hidden, defaultMode: 0440}}
  - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: token, projected: {sources: [{serviceAccountToken: {path: token}}]}}
  - {name: scratch, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  initContainers:
  - {name: first, image: "reprise.run/demo:1", command: [sh, -c, "echo first > /scratch/order"], volumeMounts: [{name: scratch, mountPath: /scratch}]}
  - name: side
    image: reprise.run/demo:1
    restartPolicy: Always
    command: [sh, -c, "echo side >> /scratch/order; touch /tmp/up; exec sleep 1000"]
    startupProbe: {exec: {command: [test, -f, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 60}
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  containers:
  - name: main
    image: reprise.run/demo:1
    command: [sh, -c, "echo main >> /scratch/order; exec sleep 1000"]
    readinessProbe: {exec: {command: [grep, main, /scratch/order]}, periodSeconds: 1, timeoutSeconds: 60}
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: conf, key: colour}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: hidden, key: word}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: BOTH, value: "$(COLOUR)-$(WORD)-$$(IP)"}
    resources: {limits: {cpu: "1", memory: 32Mi}}
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: hidden, mountPath: /hidden}
    - {name: info, mountPath: /info}
    - {name: token, mountPath: /token}
    - {name: scratch, mountPath: /scratch}
    - {name: memory, mountPath: /memory}
    - {name: scratch, mountPath: /sub, subPath: some/place}
`)
	pod := c.pod(ref, "ready", ready)
	for command, want := range map[string]string{
		"echo $COLOUR $WORD $CPU $BOTH":                    "blue xyzzy 1 blue-xyzzy-$(IP)",
		"echo $IP":                                         pod.Status.PodIP,
		"cat /conf/colour; cat /info/labels":               `blueapp="test"`,
		"cat /hidden/word; cat /token/token":               "xyzzytoken of default/default",
		"cat /scratch/order":                               "first\nside\nmain",
		"id -u; id -G":                                     "1000\n0 2000",
		"touch /memory/x /sub/y && ls /scratch/some/place": "y",
		"grep -c inside /etc/hosts; hostname":              "1\ninside",
	} {
		if got := strings.TrimSpace(c.exec(ref, "main", "sh", "-c", command)); got != want {
			t.Errorf("%s\nsays %q, want %q", command, got, want)
		}
	}
	c.propose(events.Change{Type: "configmap.data-changed", Object: events.Ref{Resource: "configmaps", Namespace: "default", Name: "conf"},
		Data: []byte(`[{"op":"replace","path":"/data/colour","value":"green"}]`)})
	c.eventually("the new colour is in its place", func() bool {
		return c.exec(ref, "main", "cat", "/conf/colour") == "green"
	})
}

// TestFailing shows what is told of containers that cannot run.
func TestFailing(t *testing.T) {
	c := newCluster(t)
	waits := func(reason string) func(*v1.Pod) bool {
		return func(p *v1.Pod) bool {
			return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
				p.Status.ContainerStatuses[0].State.Waiting.Reason == reason
		}
	}
	for name, test := range map[string]struct{ container, reason, says string }{
		"pull":   {`{name: a, image: "127.0.0.1:1/none:1"}`, "ImagePullBackOff", "127.0.0.1:1/none:1"},
		"never":  {`{name: a, image: "127.0.0.1:1/none:1", imagePullPolicy: Never}`, "ErrImageNeverPull", "Never"},
		"config": {`{name: a, image: "reprise.run/demo:1", env: [{name: X, valueFrom: {configMapKeyRef: {name: none, key: x}}}]}`, "CreateContainerConfigError", `configmap "default/none" not found`},
		"crash":  {`{name: a, image: "reprise.run/demo:1", command: [sh, -c, "exit 3"]}`, "CrashLoopBackOff", "back-off 10s"},
		"root":   {`{name: a, image: "reprise.run/demo:1", securityContext: {runAsNonRoot: true}}`, "CreateContainerConfigError", "runAsUser"},
	} {
		ref := c.apply(fmt.Sprintf("{kind: Pod, metadata: {name: %s}, spec: {containers: [%s]}}", name, test.container))
		pod := c.pod(ref, "waiting: "+test.reason, waits(test.reason))
		if says := pod.Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(says, test.says) {
			t.Errorf("%s: %s says %q, want %q in it", name, test.reason, says, test.says)
		}
	}
	ref := c.apply(`{kind: Pod, metadata: {name: oom}, spec: {restartPolicy: Never, containers: [{name: a, image: "reprise.run/demo:1",
      command: [sh, -c, "head -c 100m /dev/zero | tail"], resources: {limits: {memory: 16Mi}}}]}}`)
	pod := c.pod(ref, "failed", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed })
	if end := pod.Status.ContainerStatuses[0].State.Terminated; end == nil || end.Reason != "OOMKilled" || end.ExitCode != 137 {
		t.Errorf("out of memory ends as %+v", end)
	}
}

// TestHooks shows hooks and a liveness probe at work.
func TestHooks(t *testing.T) {
	c := newCluster(t)
	ref := c.apply(`
kind: Pod
metadata: {name: hooks}
spec:
  terminationGracePeriodSeconds: 60
  volumes: [{name: out, hostPath: {path: ` + t.TempDir() + `}}]
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.1; done"]
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo started > /out/start"]}}
      preStop: {exec: {command: [sh, -c, "echo stopping > /out/stop"]}}
    livenessProbe: {exec: {command: [test, "!", -f, /tmp/ill]}, periodSeconds: 1, timeoutSeconds: 60, failureThreshold: 1}
    volumeMounts: [{name: out, mountPath: /out}]
`)
	c.pod(ref, "ready", ready)
	c.eventually("the postStart hook has run", func() bool { return c.exec(ref, "a", "cat", "/out/start") == "started\n" })
	c.exec(ref, "a", "touch", "/tmp/ill")
	c.pod(ref, "restarted", func(p *v1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if got := c.exec(ref, "a", "cat", "/out/stop"); got != "stopping\n" {
		t.Errorf("the preStop hook left %q", got)
	}
}

// forward asks for a path through a forwarded port.
func (c *cluster) forward(ref events.Ref, port int, path string) string {
	c.t.Helper()
	u := &url.URL{Scheme: "https", Host: c.listener.Addr().String(), Path: fmt.Sprintf("/portForward/%s/%s", ref.Namespace, ref.Name)}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		c.t.Fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u),
		[]string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		c.t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() { failed <- f.ForwardPorts() }()
	defer func() { close(stop); <-failed }()
	select {
	case <-ready:
	case err := <-failed:
		failed <- err
		c.t.Fatalf("port-forward: %v", err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", ports[0].Local, path))
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(body)
}

func (c *cluster) eventually(what string, is func() bool) {
	c.t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			c.t.Fatalf("not so: %s", what)
		}
		<-time.After(50 * time.Millisecond) // The runtime has no way to tell when.
	}
}

// ended waits until the pod's first container has ended, by asking the runtime.
func (c *cluster) ended(ref events.Ref) {
	c.eventually(ref.Name+" has ended", func() bool {
		list, err := c.runtime.Containers().ListContainers(context.Background(), &runtimeapi.ListContainersRequest{
			Filter: &runtimeapi.ContainerFilter{LabelSelector: map[string]string{"io.kubernetes.pod.name": ref.Name}}})
		return err == nil && len(list.Containers) == 1 && list.Containers[0].State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
}

// kill kills a container's first process from outside.
func (c *cluster) kill(pod *v1.Pod, container int) {
	c.t.Helper()
	if err := syscall.Kill(c.pid(pod, container), syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
}

// pid is a container's first process.
func (c *cluster) pid(pod *v1.Pod, container int) int {
	c.t.Helper()
	id := strings.TrimPrefix(pod.Status.ContainerStatuses[container].ContainerID, "containerd://")
	st, err := c.runtime.Containers().ContainerStatus(context.Background(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		c.t.Fatal(err)
	}
	return pidOf(c.t, st.Info["info"])
}

// pidOf reads the process id from what the runtime tells of a container or
// sandbox.
func pidOf(t *testing.T, info string) int {
	t.Helper()
	var o struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(info), &o); err != nil || o.PID == 0 {
		t.Fatalf("no pid in %s: %v", info, err)
	}
	return o.PID
}

// get asks the agent as the API server does.
func (c *cluster) get(path string) string {
	c.t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	r, err := client.Get("https://" + c.listener.Addr().String() + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %s %s %v", path, r.Status, body, err)
	}
	return string(body)
}

// exec runs a command as the API server does, and returns what it says.
func (c *cluster) exec(ref events.Ref, container string, command ...string) string {
	c.t.Helper()
	q := url.Values{"command": command, "output": {"1"}, "error": {"1"}}
	u := &url.URL{Scheme: "https", Host: c.listener.Addr().String(), RawQuery: q.Encode(),
		Path: fmt.Sprintf("/exec/%s/%s/%s", ref.Namespace, ref.Name, container)}
	e, err := remotecommand.NewSPDYExecutor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, http.MethodPost, u)
	if err != nil {
		c.t.Fatal(err)
	}
	var out, bad bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &bad}); err != nil {
		return fmt.Sprintf("%s%s%v", out.String(), bad.String(), err)
	}
	return out.String()
}
