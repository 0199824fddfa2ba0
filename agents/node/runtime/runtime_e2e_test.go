//go:build e2e

package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/critest"
	"github.com/reprise-run/reprise/agents/node/images"
	"github.com/reprise-run/reprise/agents/node/runtime"
)

// patience is how long the tests wait for what must happen; a slow machine is no
// failure.
const patience = 2 * time.Minute

// node returns the configuration of a node that is taken down after the test.
func node(t *testing.T, name string) runtime.Config {
	t.Helper()
	run, err := os.MkdirTemp("/run", "reprise")
	if err != nil {
		t.Fatal(err)
	}
	c := runtime.Config{
		Node:       name,
		DataDir:    t.TempDir(),
		RunDir:     run,
		BinDir:     dist(t, "bin"),
		PodCIDR:    netip.MustParsePrefix("10.213.7.0/24"),
		PauseImage: images.PauseImage,
	}
	t.Cleanup(func() {
		if said, err := os.ReadFile(c.LogFile()); err == nil && t.Failed() {
			t.Logf("containerd said:\n%s", said)
		}
		if err := runtime.Down(context.Background(), c, true); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	return c
}

func start(t *testing.T, c runtime.Config) *runtime.Runtime {
	t.Helper()
	r, err := runtime.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func importImages(t *testing.T, r *runtime.Runtime) {
	t.Helper()
	for _, archive := range []string{"pause.tar", "demo.tar"} {
		if _, err := images.Import(t.Context(), r.Config().Socket(), filepath.Join(r.Config().BinDir, "../images", archive)); err != nil {
			t.Fatal(err)
		}
	}
}

// pod is a sandbox with one demo container in it.
type pod struct {
	uid, sandbox, container, ip string
	config                      *runtimeapi.PodSandboxConfig
}

func runPod(t *testing.T, r *runtime.Runtime, name string, limits runtime.Limits, ports ...*runtimeapi.PortMapping) pod {
	t.Helper()
	ctx := t.Context()
	parent, err := r.Cgroups().EnsurePod("uid-"+name, limits)
	if err != nil {
		t.Fatal(err)
	}
	namespaces := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	p := pod{uid: "uid-" + name, config: &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Hostname:     name,
		LogDirectory: filepath.Join(r.Config().DataDir, "logs", name),
		PortMappings: ports,
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    parent,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: namespaces},
		},
	}}
	sandbox, err := r.Containers().RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: p.config})
	if err != nil {
		t.Fatal(err)
	}
	p.sandbox = sandbox.PodSandboxId
	created, err := r.Containers().CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId:  p.sandbox,
		SandboxConfig: p.config,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "demo"},
			Image:    &runtimeapi.ImageSpec{Image: images.DemoImage + ":1"},
			LogPath:  "demo.log",
			Linux: &runtimeapi.LinuxContainerConfig{
				SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: namespaces},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.container = created.ContainerId
	if _, err := r.Containers().StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: p.container}); err != nil {
		t.Fatal(err)
	}
	status, err := r.Containers().PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: p.sandbox})
	if err != nil {
		t.Fatal(err)
	}
	p.ip = status.Status.Network.Ip
	return p
}

// get asks a web server until it answers.
func get(t *testing.T, url string) string {
	t.Helper()
	var body []byte
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil
		}
		defer answer.Body.Close()
		body, err = io.ReadAll(answer.Body)
		return answer.StatusCode == http.StatusOK, err
	})
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return string(body)
}

// status asks for a container, also across a restart of containerd.
func status(t *testing.T, r *runtime.Runtime, container string, until func(*runtimeapi.ContainerStatus) bool) *runtimeapi.ContainerStatus {
	t.Helper()
	var last *runtimeapi.ContainerStatus
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		answer, err := r.Containers().ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: container, Verbose: true})
		if err != nil {
			return false, nil
		}
		last = answer.Status
		return until(last), nil
	})
	if err != nil {
		t.Fatalf("container %s: %v; last seen: %v", container, err, last)
	}
	return last
}

func exited(s *runtimeapi.ContainerStatus) bool {
	return s.State == runtimeapi.ContainerState_CONTAINER_EXITED
}

func running(s *runtimeapi.ContainerStatus) bool {
	return s.State == runtimeapi.ContainerState_CONTAINER_RUNNING
}

// containerd is the process that listens for c.
func containerd(t *testing.T, c runtime.Config) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.RunDir, "containerd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// members are the processes of a pod that run the demo.
func members(t *testing.T, r *runtime.Runtime, p pod) []int {
	t.Helper()
	var pids []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		groups, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if strings.Contains(string(groups), r.Cgroups().Parent(p.uid)+"/") && strings.HasPrefix(string(line), "/demo") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestPodServesAndTellsItsExitCode(t *testing.T) {
	r := start(t, node(t, "serves"))
	importImages(t, r)
	p := runPod(t, r, "web", runtime.Limits{CPUShares: 256, Memory: 64 << 20, Pids: 200},
		&runtimeapi.PortMapping{ContainerPort: 8080, HostPort: 18080})
	if got := get(t, "http://"+net.JoinHostPort(p.ip, "8080")); got != "Hello from demo 1 on web\n" {
		t.Errorf("the pod answered %q", got)
	}
	if got := get(t, "http://127.0.0.1:18080/healthz"); got != "ok\n" {
		t.Errorf("the host port answered %q", got)
	}
	pids := members(t, r, p)
	if len(pids) != 1 {
		t.Fatalf("processes of the demo in the pod's control group: %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s := status(t, r, p.container, exited); s.ExitCode != 137 {
		t.Errorf("killed, it exited with %d, %s", s.ExitCode, s.Reason)
	}
}

func TestPodLimitOfMemoryIsKept(t *testing.T) {
	r := start(t, node(t, "oom"))
	importImages(t, r)
	p := runPod(t, r, "hungry", runtime.Limits{Memory: 48 << 20})
	url := "http://" + net.JoinHostPort(p.ip, "8080")
	get(t, url)
	_, _ = http.Get(url + "/oom")
	if s := status(t, r, p.container, exited); s.ExitCode != 137 || s.Reason != "OOMKilled" {
		t.Errorf("over its pod's limit, it exited with %d, %s", s.ExitCode, s.Reason)
	}
}

func TestContainersOutliveWhoeverLooksAfterThem(t *testing.T) {
	c := node(t, "adopts")
	first := start(t, c)
	importImages(t, first)
	p := runPod(t, first, "web", runtime.Limits{})
	before := containerd(t, c)
	if _, err := runtime.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second supervisor: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := start(t, c)
	if after := containerd(t, c); after != before {
		t.Errorf("containerd was replaced: %d, then %d", before, after)
	}
	demo := status(t, second, p.container, running)

	// Adopted rather than begotten, it is started again all the same.
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return containerd(t, c) != before, nil
	}); err != nil {
		t.Fatal("containerd was not started again")
	}
	if s := status(t, second, p.container, running); s.StartedAt != demo.StartedAt {
		t.Errorf("the container was restarted: %d, then %d", demo.StartedAt, s.StartedAt)
	}
	if got := get(t, "http://"+net.JoinHostPort(p.ip, "8080")); !strings.Contains(got, "Hello") {
		t.Errorf("the pod answered %q", got)
	}

	// With another configuration, containerd is replaced and the containers go on.
	again := containerd(t, c)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	c.RegistryConfig = t.TempDir()
	third := start(t, c)
	if containerd(t, c) == again {
		t.Error("containerd did not take the new configuration")
	}
	if s := status(t, third, p.container, running); s.StartedAt != demo.StartedAt {
		t.Errorf("the container was restarted: %d, then %d", demo.StartedAt, s.StartedAt)
	}
}

func TestWhatIsWithdrawnEndsOnlyWhatItBegan(t *testing.T) {
	c := node(t, "withdrawn")
	if err := start(t, c).Withdraw(); err != nil {
		t.Fatal(err)
	}
	if left := processesOf(t, c); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
	first := start(t, c)
	before := containerd(t, c)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := start(t, c).Withdraw(); err != nil {
		t.Fatal(err)
	}
	if after := containerd(t, c); after != before || len(processesOf(t, c)) != 1 {
		t.Errorf("containerd was process %d; now it is %d, of %q", before, after, processesOf(t, c))
	}
}

// TestAStartThatIsGivenUpLeavesContainerd ends a start while it waits for a
// containerd that runs: what is said to have no answer is killed, and this one was
// not given the time.
func TestAStartThatIsGivenUpLeavesContainerd(t *testing.T) {
	c := node(t, "givenup")
	if err := start(t, c).Close(); err != nil {
		t.Fatal(err)
	}
	before := containerd(t, c)
	if err := syscall.Kill(before, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(before, syscall.SIGCONT) })
	stopped := func(context.Context) (bool, error) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", before))
		return strings.Contains(string(stat), ") T "), err
	}
	if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, patience, true, stopped); err != nil {
		t.Fatal("containerd does not stop: ", err)
	}
	connections := func() int {
		sockets, err := os.ReadFile("/proc/net/unix")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(sockets), c.Socket()+"\n")
	}
	idle := connections()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	ended := make(chan error, 1)
	go func() {
		_, err := runtime.Start(ctx, c)
		ended <- err
	}()
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return connections() > idle+1, nil // The first is of who looks which process listens.
	}); err != nil {
		t.Fatal("the start asked nothing of containerd")
	}
	giveUp()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a start that was given up ended with: %v", err)
	}
	if err := syscall.Kill(before, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	start(t, c)
	if after := containerd(t, c); after != before {
		t.Errorf("containerd was replaced: %d, then %d", before, after)
	}
}

func TestExitCodeSurvivesTheDeathOfContainerd(t *testing.T) {
	c := node(t, "code")
	r := start(t, c)
	importImages(t, r)
	p := runPod(t, r, "web", runtime.Limits{})
	url := "http://" + net.JoinHostPort(p.ip, "8080")
	get(t, url)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(containerd(t, c), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The container ends while nobody looks.
	if answer, err := http.Get(url + "/exit?code=42"); err == nil {
		answer.Body.Close()
	}
	s := status(t, start(t, c), p.container, exited)
	t.Logf("exit code %d, reason %s, message %q", s.ExitCode, s.Reason, s.Message)
	if s.ExitCode != 42 {
		t.Errorf("it exited with %d", s.ExitCode)
	}
}

func TestBadConfigurationIsExplained(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*runtime.Config)
		want   string
	}{
		"a long path":  {func(c *runtime.Config) { c.RunDir = "/run/" + strings.Repeat("x", 60) }, "too long"},
		"no programs":  {func(c *runtime.Config) { c.BinDir = "/nowhere" }, "make tools"},
		"no addresses": {func(c *runtime.Config) { c.PodCIDR = netip.Prefix{} }, "10.244.0.0/24"},
		"broken config": {func(c *runtime.Config) {
			c.PauseImage = "x"
			c.BinDir = brokenTools(t, c.BinDir)
			c.CNIDir = dist(t, "cni")
		}, "bad luck"},
	} {
		t.Run(name, func(t *testing.T) {
			config := node(t, "bad")
			c.change(&config)
			if _, err := runtime.Start(t.Context(), config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an error with %q, got %v", c.want, err)
			}
		})
	}
}

// dist is a directory that make fills.
func dist(t *testing.T, dir string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../../dist", dir))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// brokenTools has a containerd that ends at once.
func brokenTools(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"containerd-shim-runc-v2", "runc"} {
		if err := os.Symlink(filepath.Join(from, tool), filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\necho bad luck >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "containerd"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestContract(t *testing.T) {
	r := start(t, node(t, "contract"))
	importImages(t, r)
	critest.Run(t, critest.Subject{
		Containers: r.Containers(), Images: r.Images(), Image: images.DemoImage + ":1",
		Sandbox: func(c *runtimeapi.PodSandboxConfig) {
			parent, err := r.Cgroups().EnsurePod(c.Metadata.Uid, runtime.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			c.LogDirectory = filepath.Join(r.Config().DataDir, "logs", c.Metadata.Name)
			c.Linux = &runtimeapi.LinuxPodSandboxConfig{CgroupParent: parent, SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			}}
		},
	})
}
