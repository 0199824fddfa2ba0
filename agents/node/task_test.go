package node

import (
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/plan"
)

// sandboxRuntime notes what becomes of sandboxes.
type sandboxRuntime struct {
	runtimeapi.RuntimeServiceClient
	calls []string
	err   error // of a stop
}

func (r *sandboxRuntime) StopPodSandbox(_ context.Context, q *runtimeapi.StopPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.StopPodSandboxResponse, error) {
	r.calls = append(r.calls, "stop "+q.PodSandboxId)
	return nil, r.err
}

func (r *sandboxRuntime) RemovePodSandbox(_ context.Context, q *runtimeapi.RemovePodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.RemovePodSandboxResponse, error) {
	r.calls = append(r.calls, "remove "+q.PodSandboxId)
	return nil, nil
}

// A sandbox gives its network back before it is forgotten, also if it has ended already: an
// agent that was killed in between may have left it half stopped.
func TestASandboxIsStoppedBeforeItIsRemoved(t *testing.T) {
	broken := errors.New("the network does not answer")
	for _, c := range []struct {
		ready bool
		err   error
		want  []string
	}{
		{true, nil, []string{"stop s0", "remove s0"}},
		{false, nil, []string{"stop s0", "remove s0"}},
		{true, broken, []string{"stop s0"}},
		{false, broken, []string{"stop s0"}},
	} {
		r := &sandboxRuntime{err: c.err}
		task := &task{a: &Agent{o: Options{Containers: r}}, Action: plan.Action{Kind: plan.RemoveSandbox, ID: "s0"},
			p: plan.Pod{Sandboxes: []plan.Sandbox{{ID: "s0", Ready: c.ready}}}}
		if _, err := task.run(t.Context()); !errors.Is(err, c.err) || !slices.Equal(r.calls, c.want) {
			t.Errorf("ready %v: %q, %v; want %q, %v", c.ready, r.calls, err, c.want, c.err)
		}
	}
}

// A sandbox that is being stopped is not removed meanwhile.
func TestASandboxEndsOnce(t *testing.T) {
	stop, remove := plan.Action{Kind: plan.StopSandbox, ID: "s0"}, plan.Action{Kind: plan.RemoveSandbox, ID: "s0"}
	if stop.Key() != remove.Key() {
		t.Errorf("one is %s, the other %s", stop.Key(), remove.Key())
	}
	if other := (plan.Action{Kind: plan.RemoveSandbox, ID: "s1"}); other.Key() == remove.Key() {
		t.Errorf("all are %s", other.Key())
	}
}
