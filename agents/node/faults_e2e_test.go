//go:build e2e

package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/events"
)

// switched is a proposer that may be out of reach.
type switched struct {
	events.Proposer
	off atomic.Bool
}

func (s *switched) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	if s.off.Load() {
		return events.Receipt{}, fmt.Errorf("switched off: %w", events.ErrUnavailable)
	}
	return s.Proposer.Propose(ctx, p)
}

// TestOutage has a container crash again and again while no committer answers:
// each end is told once it does, in order, with its code.
func TestOutage(t *testing.T) {
	c := newCluster(t)
	c.stop()
	out := &switched{Proposer: c.proposer}
	c.proposer = out
	c.start()
	ref := c.apply(`
kind: Pod
metadata: {name: crashes}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sh, -c, "echo x >> /v/n; n=$(wc -l < /v/n); [ $n -lt 3 ] || exec sleep 1000; sleep 1; exit $n"]
    volumeMounts: [{name: v, mountPath: /v}]
`)
	c.pod(ref, "ready", ready)
	out.off.Store(true)
	c.eventually("the third attempt runs", func() bool {
		list := c.running(ref)
		return len(list) == 1 && list[0].Metadata.Attempt == 2
	})
	out.off.Store(false)
	c.pod(ref, "restarted twice", func(p *v1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 2 })
	var codes []int
	for _, e := range c.history(ref) {
		var note struct{ Attempt, ExitCode int }
		if e.Type == "container.exited" {
			if err := json.Unmarshal(e.Note, &note); err != nil {
				t.Fatal(err)
			}
			codes = append(codes, note.ExitCode)
		}
	}
	if fmt.Sprint(codes) != "[1 2]" {
		t.Errorf("the exit codes told are %v:\n%s", codes, c.types(ref))
	}
}

// TestLostSandbox kills the process that holds a pod's namespaces: the pod
// starts anew in others.
func TestLostSandbox(t *testing.T) {
	c := newCluster(t)
	ref := c.apply(`{kind: Pod, metadata: {name: web}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: demo, image: "reprise.run/demo:1"}]}}`)
	before := c.pod(ref, "ready", ready)
	boxes, err := c.runtime.Containers().ListPodSandbox(context.Background(), &runtimeapi.ListPodSandboxRequest{
		Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.name": "web"}}})
	if err != nil || len(boxes.Items) != 1 {
		t.Fatal(boxes, err)
	}
	st, err := c.runtime.Containers().PodSandboxStatus(context.Background(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: boxes.Items[0].Id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pidOf(t, st.Info["info"]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := c.pod(ref, "in another sandbox", func(p *v1.Pod) bool { return ready(p) && p.Status.PodIP != before.Status.PodIP })
	if got := after.Status.ContainerStatuses[0]; got.RestartCount != 1 || got.LastTerminationState.Terminated == nil {
		t.Errorf("the container's status is %+v", got)
	}
}

// TestContainerdRestart kills containerd, and a container while it is down.
func TestContainerdRestart(t *testing.T) {
	c := newCluster(t)
	calm := c.apply(`{kind: Pod, metadata: {name: calm}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: demo, image: "reprise.run/demo:1"}]}}`)
	hurt := c.apply(`{kind: Pod, metadata: {name: hurt}, spec: {restartPolicy: Never, containers: [{name: a, image: "reprise.run/demo:1",
      command: [sh, -c, "trap 'exit 9' TERM; while true; do sleep 0.1; done"]}]}}`)
	before, victim := c.pod(calm, "ready", ready), c.pod(hurt, "ready", ready)
	told := c.types(calm)
	pid := c.pid(victim, 0)
	daemon := containerd(t, c.runtime.Config().RunDir)
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The first process of a pod does not hear a signal before it says that it will.
	c.eventually("the container has ended", func() bool { return errors.Is(syscall.Kill(pid, syscall.SIGTERM), syscall.ESRCH) })
	pod := c.pod(hurt, "failed", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed })
	if end := pod.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 9 {
		t.Errorf("the end is told as %+v", end)
	}
	after := c.pod(calm, "ready", ready)
	if after.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID || c.types(calm) != told {
		t.Errorf("the other pod was disturbed: %s", c.types(calm))
	}
}

// containerd finds the process whose configuration is in dir.
func containerd(t *testing.T, dir string) int {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		line, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(line), "--config\x00"+dir) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("containerd does not run")
	return 0
}

// running returns the pod's containers that run.
func (c *cluster) running(ref events.Ref) []*runtimeapi.Container {
	list, err := c.runtime.Containers().ListContainers(context.Background(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		LabelSelector: map[string]string{"io.kubernetes.pod.name": ref.Name},
		State:         &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	}})
	if err != nil {
		return nil
	}
	return list.Containers
}
