package node_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
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

// in has an agent that uses the runtime of a bubble in this way.
func (h *hooked) in(b *bubble) {
	b.stop()
	h.RuntimeServiceClient = b.runtime
	b.containers = h
	b.start()
}

const hookedContainer = `{"image":"img","lifecycle":{"postStart":{"exec":{"command":["postStart"]}},"preStop":{"exec":{"command":["preStop"]}}},"name":"a"}`

// A container is told to run when its postStart hook is over, however often it is looked at
// meanwhile, and the containers after it are started then.
func TestAPodIsReadyAfterItsHook(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		var h hooked
		h.in(b)
		b.createWith(hookedContainer + `,{"image":"img","name":"b"}`)
		b.settle(6 * time.Second)
		if p := b.pod(); p.Status.Phase != v1.PodPending || len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Waiting == nil {
			t.Errorf("during the hook the pod is %+v", p.Status)
		}
		b.settle(3 * time.Second)
		if p := b.pod(); p.Status.Phase != v1.PodRunning || !p.Status.ContainerStatuses[0].Ready || !p.Status.ContainerStatuses[1].Ready {
			t.Errorf("after the hook the pod is %+v", p.Status)
		}
		if want := []string{"started", "postStart", "postStart is over", "started"}; !slices.Equal(h.notes, want) {
			t.Errorf("the runtime saw %q, want %q", h.notes, want)
		}
	})
}

// A pod that is deleted before its postStart hook is over leaves that, and has its preStop
// hook then.
func TestHooksDoNotRunBesideEachOther(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		var h hooked
		h.in(b)
		b.createWith(hookedContainer)
		b.settle(3 * time.Second)
		b.delete()
		b.settle(20 * time.Second)
		want := []string{"started", "postStart", "postStart was left", "preStop", "preStop was left", "stopped"}
		if !slices.Equal(h.notes, want) || b.pod() != nil {
			t.Errorf("the runtime saw %q, want %q; the pod is %+v", h.notes, want, b.pod())
		}
	})
}
