package hollow_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/agents/node/critest"
	"github.com/reprise-run/reprise/agents/sim/hollow"
)

// inBubble runs a test with a runtime in time of its own.
func inBubble(t *testing.T, seed uint64, profile string, test func(t *testing.T, r *hollow.Runtime)) {
	t.Helper()
	p, err := hollow.ReadProfile([]byte(profile))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		timeline := hollow.NewTimeline(clock.RealClock{})
		go timeline.Run(ctx)
		_, pods := hollow.Addresses(300)
		test(t, hollow.New(hollow.Options{Node: "n1", Seed: seed, Profile: p, Pods: pods, Timeline: timeline}))
	})
}

func TestContract(t *testing.T) {
	for _, profile := range []string{"", "{sandbox: {min: 50ms}, start: {mean: 1s}, stop: {min: 1s}}"} {
		inBubble(t, 1, profile, func(t *testing.T, r *hollow.Runtime) {
			critest.Run(t, critest.Subject{Containers: r, Images: r, Image: "demo:1", Sandbox: func(*runtimeapi.PodSandboxConfig) {}})
			if sandboxes, containers := r.Size(); sandboxes+containers > 0 {
				t.Errorf("left are %d sandboxes and %d containers", sandboxes, containers)
			}
		})
	}
}

func sandbox(t *testing.T, r *hollow.Runtime, uid string) string {
	t.Helper()
	s, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: uid, Namespace: "ns", Uid: uid},
		Labels:   map[string]string{kubelettypes.KubernetesPodUIDLabel: uid, kubelettypes.KubernetesPodNameLabel: uid},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s.PodSandboxId
}

func create(t *testing.T, r *hollow.Runtime, uid, box string, attempt uint32) string {
	t.Helper()
	c, err := r.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: box, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "c", Attempt: attempt}, Image: &runtimeapi.ImageSpec{Image: "i"},
		Labels: map[string]string{kubelettypes.KubernetesPodUIDLabel: uid, kubelettypes.KubernetesPodNameLabel: uid},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c.ContainerId
}

// history has a hundred attempts at a container start, in the order that the test
// gives, and says what becomes of each, in the order of the attempts.
func history(t *testing.T, seed uint64, backwards bool) string {
	t.Helper()
	lines := make([]string, 100)
	inBubble(t, seed, "{start: {mean: 1s}, startFailures: 0.2, exits: {share: 0.5, after: {mean: 1m}, code: 3}}", func(t *testing.T, r *hollow.Runtime) {
		box := sandbox(t, r, "u")
		begun := time.Now()
		var all sync.WaitGroup
		for i := range lines {
			if backwards {
				i = len(lines) - 1 - i
			}
			id := create(t, r, "u", box, uint32(i))
			all.Go(func() {
				_, err := r.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
				took := time.Since(begun).Round(time.Millisecond)
				time.Sleep(time.Hour)
				s, failed := r.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
				if failed != nil {
					t.Error(failed)
					return
				}
				lines[i] = fmt.Sprintf("%d: %s, failed %v, %s code %d after %s", i, took, err != nil, s.Status.State, s.Status.ExitCode,
					time.Unix(0, s.Status.FinishedAt).Sub(begun).Round(time.Millisecond))
			})
		}
		all.Wait()
	})
	return strings.Join(lines, "\n")
}

func TestTheSeedSaysWhatHappens(t *testing.T) {
	one := history(t, 1, false)
	if again := history(t, 1, true); again != one {
		t.Errorf("the same seed in another order gives\n%s\nafter\n%s", again, one)
	}
	if other := history(t, 2, false); other == one {
		t.Error("another seed gives the same")
	}
	for _, want := range []string{"failed true, CONTAINER_EXITED code 128", "failed false, CONTAINER_EXITED code 3", "failed false, CONTAINER_RUNNING"} {
		if !strings.Contains(one, want) {
			t.Errorf("none is %q:\n%s", want, one)
		}
	}
}

func TestStopHasAGrace(t *testing.T) {
	inBubble(t, 1, "{stop: {min: 5s}}", func(t *testing.T, r *hollow.Runtime) {
		box := sandbox(t, r, "u")
		for _, c := range []struct {
			grace, code int64
			takes       time.Duration
		}{{10, 143, 5 * time.Second}, {2, 137, 2 * time.Second}, {0, 137, 0}} {
			id := create(t, r, "u", box, uint32(c.grace))
			if _, err := r.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, err := r.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: c.grace}); err != nil {
				t.Fatal(err)
			}
			s, err := r.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took != c.takes || int64(s.Status.ExitCode) != c.code {
				t.Errorf("with a grace of %ds it took %s and ended with %d, want %s and %d", c.grace, took, s.Status.ExitCode, c.takes, c.code)
			}
		}
	})
}

func TestPullsTakeTimeAndFail(t *testing.T) {
	inBubble(t, 1, "{pull: {min: 2s}, pullFailures: 0.5}", func(t *testing.T, r *hollow.Runtime) {
		failed, pulled := 0, 0
		for i := range 100 {
			image := &runtimeapi.ImageSpec{Image: fmt.Sprint("img", i)}
			begun := time.Now()
			_, err := r.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: image})
			if took := time.Since(begun); took != 2*time.Second {
				t.Fatalf("a pull took %s", took)
			}
			st, _ := r.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: image})
			if (st.Image != nil) != (err == nil) {
				t.Fatalf("after a pull with %v the image is %v", err, st.Image)
			}
			if err != nil {
				failed++
			} else {
				pulled++
			}
		}
		if failed < 20 || pulled < 20 {
			t.Errorf("of 100 pulls %d failed", failed)
		}
	})
}

func TestAddresses(t *testing.T) {
	seen := map[netip.Addr]bool{}
	ranges := map[netip.Prefix]bool{}
	for i := range hollow.MaxNodes {
		node, pods := hollow.Addresses(i)
		if seen[node] || ranges[pods] || pods.Masked() != pods {
			t.Fatalf("node %d has the address %s and the range %s", i, node, pods)
		}
		seen[node], ranges[pods] = true, true
	}
	inBubble(t, 1, "", func(t *testing.T, r *hollow.Runtime) {
		taken := map[string]string{}
		address := func(box string) string {
			st, err := r.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: box})
			if err != nil {
				t.Fatal(err)
			}
			return st.Status.Network.Ip
		}
		for i := range hollow.MaxPods {
			box := sandbox(t, r, fmt.Sprint("u", i))
			ip := address(box)
			if taken[ip] != "" {
				t.Fatalf("%s has the address %s of %s", box, ip, taken[ip])
			}
			taken[ip] = box
		}
		config := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{}}
		if _, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config}); err == nil {
			t.Error("there are more addresses than the range has")
		}
		free := "10.129.44.77"
		if _, err := r.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: taken[free]}); err != nil {
			t.Fatal(err)
		}
		if got := address(sandbox(t, r, "last")); got != free {
			t.Errorf("the address is %s, want %s, which has become free", got, free)
		}
	})
}

func TestProfileRefusesNonsense(t *testing.T) {
	for text, want := range map[string]string{
		"{startFailures: 2}":             "startFailures is a share",
		"{exits: {share: -1}}":           "exits.share is a share",
		"{start: {min: 2s, max: 1s}}":    "start: the longest time, 1s, is shorter",
		"{pull: {mean: -1s}}":            "pull: no time may be negative",
		"{exits: {code: 256}}":           "exits.code is the exit status of a process and must be from 0 to 255, not 256",
		"{exits: {code: -1}}":            "not -1",
		"{strat: {min: 2s}}":             "unknown field",
		"{start: {min: soon}}":           "not a profile",
		"{sandbox: {min: 1s}, pull: 1s}": "not a profile",
	} {
		if _, err := hollow.ReadProfile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
