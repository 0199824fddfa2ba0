package volumes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/pkg/securitycontext"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// payload is what a volume that is made from objects contains.
type payload struct {
	files map[string]volumeutil.FileProjection
	mode  int32
	// secret says that it must not reach the disk.
	secret bool
	again  time.Time
}

// project writes a volume that is made from objects, all files at once.
func (s *Store) project(ctx context.Context, pod *v1.Pod, v *v1.Volume, objs Objects) (time.Time, error) {
	p := payload{files: map[string]volumeutil.FileProjection{}, mode: 0o644}
	if err := s.collect(ctx, &p, pod, v, objs); err != nil {
		return p.again, err
	}
	path := s.path(pod, v)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return p.again, err
	}
	if p.secret {
		if _, err := tmpfs(path, "mode=0755"); err != nil {
			return p.again, err
		}
	}
	w, err := volumeutil.NewAtomicWriter(path, "pod "+pod.Namespace+"/"+pod.Name+" volume "+v.Name)
	if err != nil {
		return p.again, err
	}
	return p.again, w.Write(p.files, func(subPath string) error {
		return own(filepath.Join(path, subPath), fsGroup(pod), true)
	})
}

func (s *Store) collect(ctx context.Context, p *payload, pod *v1.Pod, v *v1.Volume, objs Objects) error {
	mode := func(m *int32) {
		if m != nil {
			p.mode = *m
		}
	}
	switch {
	case v.ConfigMap != nil:
		mode(v.ConfigMap.DefaultMode)
		return p.configMap(pod, objs, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		mode(v.Secret.DefaultMode)
		return p.secretFiles(pod, objs, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.DownwardAPI != nil:
		mode(v.DownwardAPI.DefaultMode)
		return p.downward(pod, v.DownwardAPI.Items, s.allocatable)
	}
	mode(v.Projected.DefaultMode)
	for i := range v.Projected.Sources {
		var err error
		switch src := &v.Projected.Sources[i]; {
		case src.ConfigMap != nil:
			err = p.configMap(pod, objs, src.ConfigMap.Name, src.ConfigMap.Items, src.ConfigMap.Optional)
		case src.Secret != nil:
			err = p.secretFiles(pod, objs, src.Secret.Name, src.Secret.Items, src.Secret.Optional)
		case src.DownwardAPI != nil:
			err = p.downward(pod, src.DownwardAPI.Items, s.allocatable)
		case src.ServiceAccountToken != nil:
			err = s.tokenFile(ctx, p, pod, v, src.ServiceAccountToken)
		default:
			err = fmt.Errorf("source %d is of a kind that this node does not have", i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *payload) add(path string, data []byte, mode *int32) {
	m := p.mode
	if mode != nil {
		m = *mode
	}
	p.files[path] = volumeutil.FileProjection{Data: data, Mode: m}
}

// items adds the keys that were asked for, or all.
func (p *payload) items(what string, data map[string][]byte, items []v1.KeyToPath, optional bool) error {
	if len(items) == 0 {
		for k, v := range data {
			p.add(k, v, nil)
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("%s has no key %q", what, item.Key)
		}
		p.add(item.Path, v, item.Mode)
	}
	return nil
}

func (p *payload) configMap(pod *v1.Pod, objs Objects, name string, items []v1.KeyToPath, optional *bool) error {
	may := optional != nil && *optional
	entry := objs.Get(events.Ref{Resource: "configmaps", Namespace: pod.Namespace, Name: name})
	what := fmt.Sprintf("configmap %q", pod.Namespace+"/"+name)
	if entry == nil {
		if may {
			return nil
		}
		return fmt.Errorf("%s not found", what)
	}
	cm := projections.As[v1.ConfigMap](entry)
	data := map[string][]byte{}
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return p.items(what, data, items, may)
}

func (p *payload) secretFiles(pod *v1.Pod, objs Objects, name string, items []v1.KeyToPath, optional *bool) error {
	p.secret = true
	may := optional != nil && *optional
	entry := objs.Get(events.Ref{Resource: "secrets", Namespace: pod.Namespace, Name: name})
	what := fmt.Sprintf("secret %q", pod.Namespace+"/"+name)
	if entry == nil {
		if may {
			return nil
		}
		return fmt.Errorf("%s not found", what)
	}
	return p.items(what, projections.As[v1.Secret](entry).Data, items, may)
}

func (p *payload) downward(pod *v1.Pod, items []v1.DownwardAPIVolumeFile, allocatable v1.ResourceList) error {
	for i := range items {
		item := &items[i]
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = fieldpath.ExtractFieldPathAsString(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = crispec.Resource(item.ResourceFieldRef, pod, nil, allocatable)
		}
		if err != nil {
			return fmt.Errorf("file %s: %w", item.Path, err)
		}
		p.add(item.Path, []byte(value), item.Mode)
	}
	return nil
}

// runsAs is the user that all the pod's containers run as, nil if they differ or
// do not say.
func runsAs(pod *v1.Pod) *int64 {
	var uid *int64
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			u, set := securitycontext.DetermineEffectiveRunAsUser(pod, &containers[i])
			if !set || uid != nil && *uid != *u {
				return nil
			}
			uid = u
		}
	}
	return uid
}

// kept returns the file as it is in place, for when no new one can be had.
func kept(path string) ([]byte, bool) {
	data, err := os.ReadFile(path)
	return data, err == nil
}
