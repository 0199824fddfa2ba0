package node

import (
	"context"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/agents/node/volumes"
)

// hidden returns what keeps the texts that come from Secrets from the runtime, nil
// if there are none in the container's variables. A sandbox that was made before the
// node could do so goes on without.
func (t *task) hidden(ctx context.Context, c *v1.Container) (*volumes.Hidden, error) {
	if !usesSecrets(c) {
		return nil, nil
	}
	r, err := t.a.o.Containers.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: t.ID})
	if err != nil {
		return nil, err
	}
	if r.GetStatus().GetAnnotations()[crispec.HidesAnnotation] == "" {
		return nil, nil
	}
	return t.a.disk.Hidden(t.uid, c.Name), nil
}

func usesSecrets(c *v1.Container) bool {
	for i := range c.EnvFrom {
		if c.EnvFrom[i].SecretRef != nil {
			return true
		}
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && from.SecretKeyRef != nil {
			return true
		}
	}
	return false
}
