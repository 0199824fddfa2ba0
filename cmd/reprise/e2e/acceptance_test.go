//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestSpine is the life of a deployment under the hands of people, with real
// containers: from apply to a killed container, a crashed server, and the
// question why.
func TestSpine(t *testing.T) {
	c := newCluster(t)
	for _, step := range []struct {
		name string
		test func(*testing.T, *cluster)
	}{
		{"apply", testApply},
		{"scale", testScale},
		{"set image and undo", testSetImageAndUndo},
		{"logs", testLogs},
		{"exec and cp", testExecAndCopy},
		{"port-forward", testPortForward},
		{"delete a pod", testDeletePod},
		{"kill a container from outside", testKilledContainer},
		{"why", testWhy},
		{"kill the server in a rollout", testKilledServer},
		{"verify", testVerify},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			of := *c
			of.t = t
			step.test(t, &of)
			c.process, c.exited, c.output = of.process, of.exited, of.output
		}) {
			return
		}
	}
}

func testApply(t *testing.T, c *cluster) {
	c.kubectl("apply", "-f", "testdata/manifests/web.yaml")
	out := c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	if !strings.Contains(out, "successfully rolled out") {
		t.Errorf("rollout status printed %q", out)
	}
	if pods := c.pods(); len(pods) != 3 {
		t.Errorf("there are %d ready pods and not 3: %v", len(pods), pods)
	}
}

func testScale(t *testing.T, c *cluster) {
	c.kubectl("scale", "deployment/web", "--replicas=5")
	c.eventuallyPrints("5", "get", "deployment/web", "-o", "jsonpath={.status.readyReplicas}")
}

func testSetImageAndUndo(t *testing.T, c *cluster) {
	// The old pods may still be on their way out when the rollout is complete.
	allRun := func(image string) {
		c.eventuallyPrints(strings.TrimSpace(strings.Repeat(image+" ", 5)), "get", "pods", "-l", "app=web",
			"-o", "jsonpath={.items[*].spec.containers[0].image}")
	}
	c.kubectl("set", "image", "deployment/web", "web=reprise.run/demo:2")
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	allRun("reprise.run/demo:2")
	c.kubectl("rollout", "undo", "deployment/web")
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	allRun("reprise.run/demo:1")
	if out := c.kubectl("rollout", "history", "deployment/web"); !strings.Contains(out, "3") {
		t.Errorf("rollout history does not know revision 3:\n%s", out)
	}
}

// pods names the pods of the deployment web whose container is ready.
func (c *cluster) pods() (ready []string) {
	c.t.Helper()
	all := c.kubectl("get", "pods", "-l", "app=web", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].ready}{"\n"}{end}`)
	for line := range strings.Lines(all) {
		if name, is, _ := strings.Cut(strings.TrimSpace(line), " "); is == "true" {
			ready = append(ready, name)
		}
	}
	return ready
}

func testLogs(t *testing.T, c *cluster) {
	pod := c.pods()[0]
	if out := c.kubectl("logs", pod); !strings.Contains(out, "listens") {
		t.Errorf("the log of %s does not say that it listens:\n%s", pod, out)
	}
	if out := c.kubectl("logs", pod, "--tail=1"); strings.Count(out, "\n") != 1 {
		t.Errorf("--tail=1 printed %q", out)
	}
}

func testExecAndCopy(t *testing.T, c *cluster) {
	pod := c.pods()[0]
	if out := c.kubectl("exec", pod, "--", "sh", "-c", "echo hello $((6*7))"); out != "hello 42\n" {
		t.Errorf("exec printed %q", out)
	}
	out, err := c.feed(strings.NewReader("to standard input\n"), "kubectl", "exec", "-i", pod, "--", "cat")
	if err != nil || out != "to standard input\n" {
		t.Errorf("exec -i cat printed %q: %v", out, err)
	}
	if out, err := c.try("kubectl", "exec", pod, "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(out, "exit code 7") {
		t.Errorf("exec of a command that ends with 7: %v, %q", err, out)
	}
	here, back := filepath.Join(t.TempDir(), "here"), filepath.Join(t.TempDir(), "back")
	if err := os.WriteFile(here, []byte("carried over the bus"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.kubectl("cp", here, pod+":/tmp/there")
	c.kubectl("cp", pod+":/tmp/there", back)
	if got, err := os.ReadFile(back); err != nil || string(got) != "carried over the bus" {
		t.Errorf("cp there and back gave %q: %v", got, err)
	}
}

func testPortForward(t *testing.T, c *cluster) {
	cmd := c.command("kubectl", "port-forward", "deployment/web", ":8080")
	out := &transcript{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	forwarding := regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)
	c.eventually("an HTTP request through port-forward answers 200", func() error {
		m := forwarding.FindStringSubmatch(out.String())
		if m == nil {
			return fmt.Errorf("port-forward says %q", out)
		}
		resp, err := http.Get("http://" + m[1] + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func testDeletePod(_ *testing.T, c *cluster) {
	before := c.pods()
	pod := before[0]
	c.kubectl("delete", "pod", pod)
	var after []string
	c.eventually("another pod replaces "+pod, func() error {
		if after = c.pods(); len(after) != 5 || slices.Contains(after, pod) {
			return fmt.Errorf("the pods are %v", after)
		}
		return nil
	})
	for _, pod := range after {
		if !slices.Contains(before, pod) {
			c.leads(pod, "pod.bound", "pod.created", "replicaset-controller", "pod.terminating", "admin")
		}
	}
}

// leads checks what the answer to why a pod runs has in it.
func (c *cluster) leads(pod string, parts ...string) {
	c.t.Helper()
	out := c.must("reprise", "why", "pods/default/"+pod)
	for _, part := range parts {
		if !strings.Contains(out, part) {
			c.t.Errorf("reprise why does not lead to %q:\n%s", part, out)
		}
	}
}

// containerProcess finds the first process of the demo server in a pod.
func containerProcess(t *testing.T, c *cluster, pod string) int {
	t.Helper()
	id := c.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	id = strings.TrimPrefix(id, "containerd://")
	cgroups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil || id == "" {
		t.Fatalf("container id %q: %v", id, err)
	}
	for _, path := range cgroups {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), id) {
			pid, err := strconv.Atoi(strings.Split(path, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no process is in the cgroup of container %s of %s", id, pod)
	return 0
}

func testKilledContainer(t *testing.T, c *cluster) {
	pod := c.pods()[0]
	if err := syscall.Kill(containerProcess(t, c, pod), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.eventuallyPrints("137", "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}")
	c.eventuallyPrints("1 true", "get", "pod", pod, "-o",
		"jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}")
	if out := c.kubectl("get", "pod", pod, "-o", "yaml"); !strings.Contains(out, "exitCode: 137") {
		t.Errorf("kubectl get -o yaml does not show the exit code:\n%s", out)
	}
	out := c.must("reprise", "history", "pods/default/"+pod)
	if !strings.Contains(out, "container.exited") || !strings.Contains(out, "137") {
		t.Errorf("reprise history does not show the exit with 137:\n%s", out)
	}
	if out := c.kubectl("logs", pod, "--previous"); !strings.Contains(out, "listens") {
		t.Errorf("kubectl logs --previous printed %q", out)
	}
}

// testWhy asks of the oldest pod, which the rollout brought about. testDeletePod asks
// of one that replaces another.
func testWhy(_ *testing.T, c *cluster) {
	pods := c.kubectl("get", "pods", "-l", "app=web", "--sort-by=.metadata.creationTimestamp", "-o", "jsonpath={.items[*].metadata.name}")
	c.leads(strings.Fields(pods)[0], "pod.bound", "pod.created", "replicaset.", "deployment.", "admin")
}

func testKilledServer(t *testing.T, c *cluster) {
	started := func() string {
		return c.kubectl("get", "pods", "-l", "app=web", "--sort-by=.metadata.name", "-o",
			`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
	}
	before := started()
	manifest := `
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 20
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: many, image: "reprise.run/demo:1", resources: {requests: {cpu: 1m}}}]
`
	c.apply(manifest)
	c.eventually("some of the 20 pods run", func() error {
		out := c.kubectl("get", "deployment/many", "-o", "jsonpath={.status.readyReplicas}")
		if n, _ := strconv.Atoi(out); n < 3 {
			return fmt.Errorf("%q are ready", out)
		}
		return nil
	})
	c.kill()
	c.start()
	c.kubectl("rollout", "status", "deployment/many", "--timeout=4m")
	restarts := c.kubectl("get", "pods", "-l", "app=many", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}")
	if got := strings.Fields(restarts); len(got) != 20 || strings.Trim(restarts, "0 ") != "" {
		t.Errorf("containers restarted, or are not 20: %q", restarts)
	}
	if after := started(); after != before {
		t.Errorf("the crash of the server disturbed the containers of web.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

func testVerify(t *testing.T, c *cluster) {
	if out := c.must("reprise", "verify"); !strings.Contains(out, "identical") {
		t.Errorf("reprise verify printed %q", out)
	}
}
