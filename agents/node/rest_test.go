package node_test

import (
	"bytes"
	"context"
	"runtime/pprof"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// asked counts how often the runtime is asked for the sandboxes of one pod: once a
// look.
type asked struct {
	runtimeapi.RuntimeServiceClient
	looks atomic.Int32
}

func (a *asked) ListPodSandbox(ctx context.Context, r *runtimeapi.ListPodSandboxRequest, o ...grpc.CallOption) (*runtimeapi.ListPodSandboxResponse, error) {
	if r.GetFilter() != nil {
		a.looks.Add(1)
	}
	return a.RuntimeServiceClient.ListPodSandbox(ctx, r, o...)
}

// workers says whether a goroutine looks after a pod.
func workers(t *testing.T) bool {
	t.Helper()
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(all.Bytes(), []byte("node.(*worker).run"))
}

// A pod of which there is no news costs a look a minute, and no goroutine.
func TestPodAtRest(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		runtime := &asked{RuntimeServiceClient: b.runtime}
		b.use(runtime)
		b.create()
		synctest.Wait()
		b.settle(time.Minute)
		if workers(t) {
			t.Error("there is a goroutine for the pod")
		}
		runtime.looks.Store(0)
		b.settle(10 * time.Minute)
		if n := runtime.looks.Load(); n != 10 {
			t.Errorf("it was looked at %d times in ten minutes", n)
		}
		// It is still looked after.
		b.runtime.Exit("a", 3)
		b.settle(time.Second)
		if got, want := b.history(), beginning+" container.exited(3)"+again; got != want {
			t.Errorf("the history is\n%s, want\n%s", got, want)
		}
	})
}
