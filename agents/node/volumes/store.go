// Package volumes puts the volumes of pods in their places on the node, keeps
// those that come from objects up to date, and takes them away without a trace:
// emptyDir, hostPath, configMap, secret, downwardAPI, projected with tokens, and
// claims that are bound to a directory of the node. The node agent calls it
// before a pod's first container and after its last.
//
// Everything it makes is below one directory a pod, so that it can be found and
// removed after a restart. It never touches what a pod's containers wrote to
// hostPath volumes.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Objects finds the objects that volumes are made from.
type Objects interface {
	Get(ref events.Ref) *projections.Entry
}

// Tokens asks the API for a token of a service account.
type Tokens func(ctx context.Context, namespace, serviceAccount string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)

// Store keeps the volumes of a node's pods.
type Store struct {
	root        string
	tokens      Tokens
	now         func() time.Time
	allocatable v1.ResourceList

	mu     sync.Mutex
	issued map[string]token
}

// NewStore returns the store of the volumes below root, a directory of its own.
// A limit that a container does not have is shown to it as what is allocatable.
func NewStore(root string, tokens Tokens, allocatable v1.ResourceList, now func() time.Time) *Store {
	return &Store{root: root, tokens: tokens, allocatable: allocatable, now: now, issued: map[string]token{}}
}

// Directory is where all that the node keeps for a pod is.
func (s *Store) Directory(uid types.UID) string { return filepath.Join(s.root, string(uid)) }

// Pods lists the pods that the store has something of.
func (s *Store) Pods() ([]types.UID, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []types.UID
	for _, e := range entries {
		out = append(out, types.UID(e.Name()))
	}
	return out, nil
}

// Has says whether the store has something of a pod.
func (s *Store) Has(uid types.UID) bool {
	_, err := os.Lstat(s.Directory(uid))
	return err == nil
}

// Prepare puts all volumes of a pod in place, or brings those that come from
// objects up to date, and returns when that has to be done again for the sake of
// a token; zero for never. What is in place already stays usable on an error.
func (s *Store) Prepare(ctx context.Context, pod *v1.Pod, objs Objects) (again time.Time, err error) {
	if err := os.MkdirAll(s.Directory(pod.UID), 0o750); err != nil {
		return again, err
	}
	var failed []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		next, err := s.prepare(ctx, pod, v, objs)
		if err != nil {
			failed = append(failed, fmt.Errorf("volume %q: %w", v.Name, err))
		}
		if !next.IsZero() && (again.IsZero() || next.Before(again)) {
			again = next
		}
	}
	return again, errors.Join(failed...)
}

func (s *Store) prepare(ctx context.Context, pod *v1.Pod, v *v1.Volume, objs Objects) (time.Time, error) {
	switch {
	case v.EmptyDir != nil:
		return time.Time{}, s.emptyDir(pod, v)
	case v.HostPath != nil:
		return time.Time{}, hostPath(v.HostPath)
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
		return s.project(ctx, pod, v, objs)
	case v.PersistentVolumeClaim != nil:
		path, err := claimed(pod, v, objs)
		if err == nil {
			err = os.MkdirAll(path, 0o755)
		}
		return time.Time{}, err
	}
	return time.Time{}, errors.New("this node has no such kind of volume: use emptyDir, hostPath, configMap, secret, downwardAPI, projected or a claim bound to a hostPath or local volume")
}

// Path returns where a volume of a pod is on the node.
func (s *Store) Path(pod *v1.Pod, name string, objs Objects) (string, error) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.Name != name:
		case v.HostPath != nil:
			return v.HostPath.Path, nil
		case v.PersistentVolumeClaim != nil:
			return claimed(pod, v, objs)
		default:
			return s.path(pod, v), nil
		}
	}
	return "", fmt.Errorf("the pod has no volume %q", name)
}

// path is where a volume that the store keeps is; the layout is the kubelet's.
func (s *Store) path(pod *v1.Pod, v *v1.Volume) string {
	kind := "empty-dir"
	switch {
	case v.ConfigMap != nil:
		kind = "configmap"
	case v.Secret != nil:
		kind = "secret"
	case v.DownwardAPI != nil:
		kind = "downward-api"
	case v.Projected != nil:
		kind = "projected"
	}
	return filepath.Join(s.Directory(pod.UID), "volumes", "kubernetes.io~"+kind, v.Name)
}

// Remove takes away everything of a pod: its mounts first.
func (s *Store) Remove(uid types.UID) error {
	dir := s.Directory(uid)
	mounted, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("cannot list the mounts below %s: %w", dir, err)
	}
	// The deepest first.
	slices.SortFunc(mounted, func(a, b *mountinfo.Info) int { return len(b.Mountpoint) - len(a.Mountpoint) })
	for _, m := range mounted {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("cannot unmount %s: %w", m.Mountpoint, err)
		}
	}
	s.forget(uid)
	return os.RemoveAll(dir)
}

func (s *Store) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.issued {
		if strings.HasPrefix(key, string(uid)+"/") {
			delete(s.issued, key)
		}
	}
}
