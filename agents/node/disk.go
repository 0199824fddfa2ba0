package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/agents/node/volumes"
	"github.com/reprise-run/reprise/events"
)

// Disk is what an agent keeps of its pods on the machine: their volumes, their
// logs, and the files that it makes for their containers.
type Disk interface {
	// Pods lists the pods of which anything is there, and Has says whether there
	// is anything of one.
	Pods() ([]types.UID, error)
	Has(uid types.UID) bool
	// Prepare, Mount and Hidden are as in volumes.Store.
	Prepare(ctx context.Context, pod *v1.Pod, objs volumes.Objects) (again time.Time, err error)
	Mount(pod *v1.Pod, m *v1.VolumeMount, objs volumes.Objects, expand func(string) string) (*runtimeapi.Mount, error)
	Hidden(pod types.UID, container string) *volumes.Hidden
	// MakeLogs makes a directory for logs of a pod.
	MakeLogs(dir string) error
	// Files makes the files that the agent itself mounts into an attempt at a
	// container: the pod's hosts file, which hosts makes of the machine's, and
	// the one that takes the termination message.
	Files(pod *v1.Pod, c *v1.Container, attempt uint32, hosts func(machine string) string) ([]*runtimeapi.Mount, error)
	// LastWords is the message that an attempt at a container left when it ended:
	// its termination message or, if there is none and logs says so, the end of
	// its log.
	LastWords(pod events.Ref, uid types.UID, container string, attempt uint32, logs bool) string
	// Remove takes away what is there of a pod, its logs only if they are to go
	// too.
	Remove(uid types.UID, logs bool) error
}

// disk is the machine's.
type disk struct {
	*volumes.Store
	logs string
}

func newDisk(root string, tokens volumes.Tokens, allocatable v1.ResourceList, now func() time.Time) (*disk, error) {
	d := &disk{
		Store: volumes.NewStore(filepath.Join(root, "pods"), tokens, allocatable, now),
		logs:  filepath.Join(root, "logs"),
	}
	for _, dir := range []string{"pods", "logs"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return nil, fmt.Errorf("cannot make the node's directory: %w", err)
		}
	}
	return d, nil
}

// Pods is Disk's.
func (d *disk) Pods() ([]types.UID, error) {
	all, err := d.Store.Pods()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.logs)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if i := strings.LastIndexByte(e.Name(), '_'); i >= 0 {
			all = append(all, types.UID(e.Name()[i+1:]))
		}
	}
	return all, nil
}

// Has is Disk's.
func (d *disk) Has(uid types.UID) bool { return d.Store.Has(uid) || len(d.logsOf(uid)) > 0 }

// logsOf returns the log directories of a pod.
func (d *disk) logsOf(uid types.UID) []string {
	found, err := filepath.Glob(filepath.Join(d.logs, "*_"+string(uid)))
	if err != nil {
		return nil // A uid is never a bad pattern.
	}
	return found
}

// MakeLogs is Disk's.
func (d *disk) MakeLogs(dir string) error { return os.MkdirAll(dir, 0o755) }

// Files is Disk's.
func (d *disk) Files(pod *v1.Pod, c *v1.Container, attempt uint32, hosts func(machine string) string) ([]*runtimeapi.Mount, error) {
	dir := d.Directory(pod.UID)
	var mounts []*runtimeapi.Mount
	if !mounted(c, "/etc/hosts") {
		path := filepath.Join(dir, "etc-hosts")
		machine, _ := os.ReadFile("/etc/hosts") // Only for pods on the host's network; a host may do without.
		if err := replace(path, hosts(string(machine))); err != nil {
			return nil, err
		}
		mounts = append(mounts, &runtimeapi.Mount{ContainerPath: "/etc/hosts", HostPath: path})
	}
	to := c.TerminationMessagePath
	if to == "" {
		to = v1.TerminationMessagePathDefault
	}
	path := messagePath(dir, c.Name, attempt)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	f.Close()
	if err := os.Chmod(path, 0o666); err != nil { // Whoever the container runs as, and whatever the umask.
		return nil, err
	}
	return append(mounts, &runtimeapi.Mount{ContainerPath: to, HostPath: path}), nil
}

func mounted(c *v1.Container, path string) bool {
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].MountPath == path {
			return true
		}
	}
	return false
}

// replace writes a file in place, for containers have it mounted, and only if its
// content is another.
func replace(path, content string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == content {
		return nil
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// How much of what a container leaves behind is told, as upstream.
const (
	maxMessage    = 4096
	maxLogMessage = 2048
)

// LastWords is Disk's.
func (d *disk) LastWords(pod events.Ref, uid types.UID, container string, attempt uint32, logs bool) string {
	data, err := os.ReadFile(messagePath(d.Directory(uid), container, attempt))
	if err == nil && len(data) > 0 {
		return string(data[:min(len(data), maxMessage)])
	}
	if !logs {
		return ""
	}
	return logTail(filepath.Join(crispec.LogDirectory(d.logs, pod.Namespace, pod.Name, uid), crispec.LogPath(container, attempt)))
}

// logTail is the end of a log, without the runtime's marks.
func logTail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	data = data[max(0, len(data)-2*maxLogMessage):]
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 {
			b.WriteString(parts[3])
		}
	}
	out := b.String()
	return out[max(0, len(out)-maxLogMessage):]
}

// messagePath is the file of a container's termination message.
func messagePath(podDir, container string, attempt uint32) string {
	return filepath.Join(podDir, "messages", fmt.Sprintf("%s-%d", container, attempt))
}

// Remove is Disk's. The pod's directory goes last, for by it is known that there
// is something to clean.
func (d *disk) Remove(uid types.UID, logs bool) error {
	if logs {
		for _, dir := range d.logsOf(uid) {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return d.Store.Remove(uid)
}
