package node_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/events"
)

// hooked is a runtime in which a hook takes a while, unless it is left, and which takes note of that.
type hooked struct {
	runtimeapi.RuntimeServiceClient
	mu    sync.Mutex
	notes []string
}

func (h *hooked) note(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, text)
}

func (h *hooked) ExecSync(ctx context.Context, r *runtimeapi.ExecSyncRequest, _ ...grpc.CallOption) (*runtimeapi.ExecSyncResponse, error) {
	if r.Cmd[0] == "ready" {
		return &runtimeapi.ExecSyncResponse{}, nil
	}
	h.note(r.Cmd[0])
	select {
	case <-ctx.Done():
		h.note(r.Cmd[0] + " was left")
		return nil, ctx.Err()
	case <-time.After(8 * time.Second):
		h.note(r.Cmd[0] + " is over")
		return &runtimeapi.ExecSyncResponse{}, nil
	}
}

func (h *hooked) StartContainer(ctx context.Context, r *runtimeapi.StartContainerRequest, o ...grpc.CallOption) (*runtimeapi.StartContainerResponse, error) {
	h.note("started")
	return h.RuntimeServiceClient.StartContainer(ctx, r, o...)
}

func (h *hooked) StopContainer(ctx context.Context, r *runtimeapi.StopContainerRequest, o ...grpc.CallOption) (*runtimeapi.StopContainerResponse, error) {
	h.note("stopped")
	return h.RuntimeServiceClient.StopContainer(ctx, r, o...)
}

// saw says what the runtime has seen so far.
func (h *hooked) saw(t *testing.T, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.notes, want) {
		t.Errorf("the runtime saw %q, want %q", h.notes, want)
	}
}

const (
	hookedHooks = `"lifecycle":{"postStart":{"exec":{"command":["postStart"]}},"preStop":{"exec":{"command":["preStop"]}}},"name":"a"`
	// A readiness probe that is carried out succeeds, for the runtime is hollow.
	hookedContainer = `{"image":"img",` + hookedHooks + `,"readinessProbe":{"exec":{"command":["ready"]},"periodSeconds":1}}`
)

// A container is told to run when its postStart hook is over, however often it is looked at
// meanwhile, and the containers after it are started then.
func TestAPodIsReadyAfterItsHook(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		h := &hooked{RuntimeServiceClient: b.runtime}
		b.use(h)
		b.createWith(hookedContainer + `,{"image":"img","name":"b"}`)
		b.settle(6 * time.Second)
		if p := b.pod(); p.Status.Phase != v1.PodPending || len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Waiting == nil {
			t.Errorf("during the hook the pod is %+v", p.Status)
		}
		b.settle(5 * time.Second)
		if p := b.pod(); p.Status.Phase != v1.PodRunning || !p.Status.ContainerStatuses[0].Ready || !p.Status.ContainerStatuses[1].Ready {
			t.Errorf("after the hook the pod is %+v", p.Status)
		}
		h.saw(t, "started", "postStart", "postStart is over", "started")
	})
}

// A pod that is deleted before its postStart hook is over leaves that, and has its preStop
// hook then. Nobody is told that it ran: its probes were never asked.
func TestHooksDoNotRunBesideEachOther(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		h := &hooked{RuntimeServiceClient: b.runtime}
		b.use(h)
		b.createWith(hookedContainer)
		b.settle(3 * time.Second)
		b.delete()
		b.settle(20 * time.Second)
		h.saw(t, "started", "postStart", "postStart was left", "preStop", "preStop was left", "stopped")
		if got, want := b.history(), "pod.created pod.sandboxed pod.terminating pod.observed container.exited(143) pod.removed"; got != want {
			t.Errorf("the history is\n%s, want\n%s", got, want)
		}
	})
}

// A pod whose time is up while its hook is under way has failed when its container has ended.
func TestNothingRunsInAPodThatHasFailed(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		h := &hooked{RuntimeServiceClient: b.runtime}
		b.use(h)
		b.createWith(hookedContainer)
		b.settle(time.Second)
		b.propose(events.Change{Type: "pod.updated", Object: web, UID: "u1", Data: []byte(`[{"op":"add","path":"/spec/activeDeadlineSeconds","value":5},{"op":"add","path":"/spec/terminationGracePeriodSeconds","value":4},{"op":"replace","path":"/metadata/generation","value":2}]`)})
		b.settle(20 * time.Second)
		if got, want := b.history(), "pod.created pod.sandboxed pod.updated pod.observed container.exited(143) pod.failed"; got != want {
			t.Errorf("the history is\n%s, want\n%s", got, want)
		}
		h.saw(t, "started", "postStart", "postStart was left", "preStop", "preStop was left", "stopped")
	})
}

// A container whose image is changed while its hook is under way has its hook first, so that
// those after it never are without what the hook waits for.
func TestAnotherImageWaitsForTheHook(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		h := &hooked{RuntimeServiceClient: b.runtime}
		b.use(h)
		b.createWith(hookedContainer + `,{"image":"img","name":"b"}`)
		b.settle(3 * time.Second)
		b.propose(events.Change{Type: "pod.updated", Object: web, UID: "u1", Data: []byte(`[{"op":"replace","path":"/spec/containers/0/image","value":"img2"},{"op":"replace","path":"/metadata/generation","value":2}]`)})
		b.settle(4 * time.Second)
		h.saw(t, "started", "postStart")
		b.settle(4 * time.Second)
		if got := h.notes[:3]; !slices.Equal(got, []string{"started", "postStart", "postStart is over"}) {
			t.Errorf("the runtime saw %q", h.notes)
		}
	})
}

// Hooks that take long keep no other pod from being started, be it the one that they wait for.
func TestHooksLeaveRoom(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		h := &hooked{RuntimeServiceClient: b.runtime}
		b.use(h)
		for i := range 40 {
			b.createPod(fmt.Sprint("hooked-", i), fmt.Sprint("h", i), hookedContainer)
		}
		b.settle(4 * time.Second)
		b.create()
		b.settle(2 * time.Second)
		if p := b.pod(); p.Status.Phase != v1.PodRunning {
			t.Errorf("beside 40 hooks it is %+v", p.Status)
		}
	})
}
