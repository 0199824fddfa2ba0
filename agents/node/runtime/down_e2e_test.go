//go:build e2e

package runtime_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/runtime"
)

func TestDownLeavesNothing(t *testing.T) {
	c := node(t, "down")
	before := footprint(t, c)
	r := start(t, c)
	importImages(t, r)
	for i := range 3 {
		runPod(t, r, fmt.Sprintf("web-%d", i), runtime.Limits{Memory: 64 << 20},
			&runtimeapi.PortMapping{ContainerPort: 8080, HostPort: int32(18081 + i)})
	}
	if during := footprint(t, c); slices.Equal(before, during) {
		t.Fatal("nothing was seen to look for")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := runtime.Down(t.Context(), c, true); err != nil {
		t.Fatal(err)
	}
	same(t, c, before)
}

func TestDownAfterACrashLeavesNothing(t *testing.T) {
	c := node(t, "crash")
	before := footprint(t, c)
	r := start(t, c)
	importImages(t, r)
	runPod(t, r, "web", runtime.Limits{}, &runtimeapi.PortMapping{ContainerPort: 8080, HostPort: 18090})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// Neither can it be asked nor started again.
	if err := syscall.Kill(containerd(t, c), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.CNIDir, c.BinDir = dist(t, "cni"), t.TempDir()
	if err := runtime.Down(t.Context(), c, true); err != nil {
		t.Fatal(err)
	}
	same(t, c, before)
}

// A reboot ends every process and clears /run; what is on disk stays.
func TestPodsOfBeforeARebootCanBeRemoved(t *testing.T) {
	c := node(t, "reboot")
	r := start(t, c)
	importImages(t, r)
	p := runPod(t, r, "web", runtime.Limits{})
	data := c.DataDir
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(containerd(t, c), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Without a containerd to ask, Down only ends things and clears the run directory.
	bare := c
	bare.CNIDir, bare.BinDir = dist(t, "cni"), t.TempDir()
	if err := runtime.Down(t.Context(), bare, false); err != nil {
		t.Fatal(err)
	}
	c.DataDir = data
	r = start(t, c)
	s := status(t, r, p.container, exited)
	t.Logf("after the reboot: exit code %d, reason %s", s.ExitCode, s.Reason)
	if _, err := r.Containers().StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Error(err)
	}
	if _, err := r.Containers().RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Error(err)
	}
	if err := r.Cgroups().RemovePod(p.uid); err != nil {
		t.Error(err)
	}
	again := runPod(t, r, "web", runtime.Limits{})
	get(t, "http://"+net.JoinHostPort(again.ip, "8080"))
}

// same waits until the machine looks as before: the kernel takes links away a
// moment after their namespace.
func same(t *testing.T, c runtime.Config, before []string) {
	t.Helper()
	var now []string
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		now = footprint(t, c)
		return slices.Equal(before, now), nil
	})
	if err != nil {
		t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(now, "\n"))
	}
}
