package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// emptyDir makes a directory that lives as long as the pod, in memory if so
// asked.
func (s *Store) emptyDir(pod *v1.Pod, v *v1.Volume) error {
	path := s.path(pod, v)
	_, err := os.Lstat(path)
	if err == nil && v.EmptyDir.Medium == v1.StorageMediumDefault {
		return nil // It is there, with what the containers put into it.
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	switch v.EmptyDir.Medium {
	case v1.StorageMediumDefault:
	case v1.StorageMediumMemory:
		size := ""
		if limit := v.EmptyDir.SizeLimit; limit != nil && limit.Value() > 0 {
			size = fmt.Sprintf("size=%d", limit.Value())
		}
		mounted, err := tmpfs(path, size)
		if err != nil || !mounted {
			return err
		}
	default:
		return fmt.Errorf("this node has no medium %q for emptyDir", v.EmptyDir.Medium)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	return own(path, fsGroup(pod), false)
}

// tmpfs mounts memory at path and says whether it had to.
func tmpfs(path, options string) (bool, error) {
	if is, err := mountinfo.Mounted(path); err != nil || is {
		return false, err
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return false, fmt.Errorf("cannot mount memory at %s: %w", path, err)
	}
	return true, nil
}

func fsGroup(pod *v1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// own gives all below path to a group, to read or also to write.
func own(path string, group *int64, readOnly bool) error {
	if group == nil {
		return nil
	}
	return filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(p, -1, int(*group)); err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o440
		if !readOnly {
			mode |= 0o660
		}
		if d.IsDir() {
			mode |= 0o110 | fs.ModeSetgid
		}
		return os.Chmod(p, mode)
	})
}

// hostPath checks that a path of the node is what the pod expects, and makes it
// where the pod asks for that.
func hostPath(src *v1.HostPathVolumeSource) error {
	kind := v1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	info, err := os.Stat(src.Path)
	if errors.Is(err, os.ErrNotExist) {
		switch kind {
		case v1.HostPathUnset:
			return nil
		case v1.HostPathDirectoryOrCreate:
			return os.MkdirAll(src.Path, 0o755)
		case v1.HostPathFileOrCreate:
			f, err := os.OpenFile(src.Path, os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
		return fmt.Errorf("the node has no %s; hostPath wants it to be a %s", src.Path, kind)
	}
	if err != nil {
		return err
	}
	mode := info.Mode()
	ok := true
	switch kind {
	case v1.HostPathDirectory, v1.HostPathDirectoryOrCreate:
		ok = mode.IsDir()
	case v1.HostPathFile, v1.HostPathFileOrCreate:
		ok = mode.IsRegular()
	case v1.HostPathSocket:
		ok = mode&fs.ModeSocket != 0
	case v1.HostPathCharDev:
		ok = mode&fs.ModeCharDevice != 0
	case v1.HostPathBlockDev:
		ok = mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0
	}
	if !ok {
		return fmt.Errorf("%s is not a %s on the node, as hostPath wants it to be", src.Path, kind)
	}
	return nil
}

// claimed returns the directory of the node that a claim is bound to.
func claimed(pod *v1.Pod, v *v1.Volume, objs Objects) (string, error) {
	name := v.PersistentVolumeClaim.ClaimName
	entry := objs.Get(events.Ref{Resource: "persistentvolumeclaims", Namespace: pod.Namespace, Name: name})
	if entry == nil {
		return "", fmt.Errorf("persistentvolumeclaim %q not found", pod.Namespace+"/"+name)
	}
	claim := projections.As[v1.PersistentVolumeClaim](entry)
	if claim.Spec.VolumeName == "" {
		return "", fmt.Errorf("persistentvolumeclaim %q is not bound to a volume yet", pod.Namespace+"/"+name)
	}
	entry = objs.Get(events.Ref{Resource: "persistentvolumes", Name: claim.Spec.VolumeName})
	if entry == nil {
		return "", fmt.Errorf("persistentvolume %q not found", claim.Spec.VolumeName)
	}
	switch pv := projections.As[v1.PersistentVolume](entry); {
	case pv.Spec.HostPath != nil:
		return pv.Spec.HostPath.Path, nil
	case pv.Spec.Local != nil:
		return pv.Spec.Local.Path, nil
	}
	return "", fmt.Errorf("persistentvolume %q is neither a hostPath nor a local volume", claim.Spec.VolumeName)
}
