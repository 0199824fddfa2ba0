// Command shim is containerd's shim for runc with one answer changed, so that a
// container's exit code outlives containerd. Containerd starts one for each pod;
// it is built as containerd-shim-runc-v2.
//
// A containerd that starts asks every shim for its containers' processes, and
// throws away a container that has none as if it had never been started. If the
// container ended while containerd was away, its exit code is thrown away with
// it. So this shim names the first process of such a container, although it has
// ended; then containerd asks for the container's state and learns how.
package main

import (
	"context"
	"fmt"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	runctask "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/ttrpc"
)

func main() {
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   newService,
	})
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}

// service is the shim's service for containers.
type service struct {
	taskapi.TTRPCTaskService
	told *told
}

func newService(ic *plugin.InitContext) (any, error) {
	publisher, err := get[shim.Publisher](ic, plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	end, err := get[shutdown.Service](ic, plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	runc, err := runctask.NewTaskService(ic.Context, publisher, end)
	if err != nil {
		return nil, err
	}
	return service{runc, &told{texts: map[[2]string][]string{}}}, nil
}

func get[T any](ic *plugin.InitContext, kind plugin.Type, id string) (T, error) {
	instance, err := ic.GetByID(kind, id)
	if err != nil {
		var none T
		return none, err
	}
	typed, ok := instance.(T)
	if !ok {
		return typed, fmt.Errorf("the shim's plugin %s is a %T", id, instance)
	}
	return typed, nil
}

// RegisterTTRPC makes the service reachable for containerd.
func (s service) RegisterTTRPC(server *ttrpc.Server) error {
	taskapi.RegisterTTRPCTaskService(server, s)
	return nil
}

// Pids names the first process of a container that has ended and whose end
// nobody has collected yet.
func (s service) Pids(ctx context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	answer, err := s.TTRPCTaskService.Pids(ctx, r)
	if err != nil || len(answer.Processes) > 0 {
		return answer, err
	}
	state, err := s.State(ctx, &taskapi.StateRequest{ID: r.ID})
	if err == nil && state.Status == task.Status_STOPPED && state.Pid > 0 {
		answer.Processes = []*task.ProcessInfo{{Pid: state.Pid}}
	}
	return answer, nil
}
