package node

import (
	"context"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	credentialsecrets "k8s.io/kubernetes/pkg/credentialprovider/secrets"
	"k8s.io/kubernetes/pkg/util/parsers"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// pull fetches an image, with each of the credentials that the pod has for its
// registry until one will do.
func (t *task) pull(ctx context.Context) error {
	repository, _, _, err := parsers.ParseImageName(t.Image)
	if err != nil {
		return reasoned{reasonInvalidImage, fmt.Errorf("%q is not the name of an image: %w", t.Image, err)}
	}
	keyring, err := credentialsecrets.MakeDockerKeyring(t.pullSecrets(), &credentialprovider.BasicDockerKeyring{})
	if err != nil {
		return reasoned{reasonErrImagePull, fmt.Errorf("a pull secret of the pod cannot be read: %w", err)}
	}
	found, _ := keyring.Lookup(repository)
	auths := []*runtimeapi.AuthConfig{nil}
	if len(found) > 0 {
		auths = nil
	}
	for _, c := range found {
		auths = append(auths, &runtimeapi.AuthConfig{Username: c.Username, Password: c.Password, Auth: c.Auth,
			ServerAddress: c.ServerAddress, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken})
	}
	var failed []string
	for _, auth := range auths {
		_, err := t.a.o.Images.PullImage(ctx, &runtimeapi.PullImageRequest{
			Image: &runtimeapi.ImageSpec{Image: t.Image}, Auth: auth, SandboxConfig: t.a.node.Sandbox(t.pod, 0, ""),
		})
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed = append(failed, message(err))
	}
	return reasoned{reasonErrImagePull, fmt.Errorf("cannot pull image %q: %s", t.Image, strings.Join(failed, "; "))}
}

// pullSecrets returns those of the pod and of its service account that are there.
func (t *task) pullSecrets() []v1.Secret {
	view := t.a.o.Projection.View()
	refs := t.pod.Spec.ImagePullSecrets
	var out []v1.Secret
	for _, r := range refs {
		if e := view.Get(events.Ref{Resource: "secrets", Namespace: t.pod.Namespace, Name: r.Name}); e != nil {
			out = append(out, *projections.As[v1.Secret](e))
		}
	}
	return out
}
