package node

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// found is an attempt at a container that the runtime has.
type found struct {
	id               string
	attempt          uint32
	started, running bool
}

// attempts asks the runtime for the attempts at a container, the newest first.
func (a *Agent) attempts(ctx context.Context, uid types.UID, container string) ([]found, error) {
	list, err := a.o.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		LabelSelector: map[string]string{kubelettypes.KubernetesPodUIDLabel: string(uid), kubelettypes.KubernetesContainerNameLabel: container},
	}})
	if err != nil {
		return nil, err
	}
	var out []found
	for _, c := range list.Containers {
		out = append(out, found{id: c.Id, attempt: c.Metadata.Attempt,
			started: c.State != runtimeapi.ContainerState_CONTAINER_CREATED, running: c.State == runtimeapi.ContainerState_CONTAINER_RUNNING})
	}
	slices.SortFunc(out, func(x, y found) int { return int(y.attempt) - int(x.attempt) })
	return out, nil
}

// sandbox asks the runtime for a pod's sandbox that is ready, empty if there is
// none.
func (a *Agent) sandbox(ctx context.Context, uid types.UID) (string, error) {
	list, err := a.o.Containers.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		LabelSelector: map[string]string{kubelettypes.KubernetesPodUIDLabel: string(uid)},
		State:         &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	}})
	if err != nil || len(list.Items) == 0 {
		return "", err
	}
	return list.Items[0].Id, nil
}
