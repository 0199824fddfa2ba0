package volumes

import (
	"fmt"
	"os"
	"path/filepath"

	securejoin "github.com/cyphar/filepath-securejoin"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Mount returns how a volume is mounted into a container, making the directory
// that subPath names if it is not there. expand replaces $(NAME) in subPathExpr.
func (s *Store) Mount(pod *v1.Pod, m *v1.VolumeMount, objs Objects, expand func(string) string) (*runtimeapi.Mount, error) {
	path, err := s.Path(pod, m.Name, objs)
	if err != nil {
		return nil, err
	}
	sub := m.SubPath
	if m.SubPathExpr != "" {
		sub = expand(m.SubPathExpr)
	}
	if sub != "" {
		if path, err = within(path, sub); err != nil {
			return nil, err
		}
	}
	out := &runtimeapi.Mount{ContainerPath: m.MountPath, HostPath: path, Readonly: m.ReadOnly || s.fromObjects(pod, m.Name)}
	if !filepath.IsAbs(out.ContainerPath) {
		out.ContainerPath = filepath.Join("/", out.ContainerPath)
	}
	if m.MountPropagation != nil {
		switch *m.MountPropagation {
		case v1.MountPropagationHostToContainer:
			out.Propagation = runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		case v1.MountPropagationBidirectional:
			out.Propagation = runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
		}
	}
	return out, nil
}

// fromObjects says that a volume is made from objects: what a container wrote
// there would be lost at the next change.
func (s *Store) fromObjects(pod *v1.Pod, name string) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == name {
			return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
		}
	}
	return false
}

// within resolves a path below a volume, where symbolic links that containers
// made cannot lead out of it.
func within(root, sub string) (string, error) {
	if !filepath.IsLocal(sub) {
		return "", fmt.Errorf("subPath %q leads out of its volume", sub)
	}
	path, err := securejoin.SecureJoin(root, sub)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", err
	}
	// Containers of any user may use it, as they may the volume.
	if info, err := os.Stat(root); err == nil {
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			return "", err
		}
	}
	return path, nil
}
