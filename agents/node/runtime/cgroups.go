package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	cgroupmode "github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	unifiedMount = "/sys/fs/cgroup"
	podPrefix    = "pod"
	// lingering is how long the kernel may keep a group busy after its last
	// process is gone.
	lingering = time.Second
)

// Limits are what all containers of one pod may use together. Zero leaves the
// kernel's default, except for CPUShares, where it means the least.
type Limits struct {
	// CPUShares is the pod's weight while CPU is scarce: 1024 a CPU requested.
	CPUShares uint64
	// CPUQuota is the microseconds of CPU in each CPUPeriod.
	CPUQuota  int64
	CPUPeriod uint64
	// Memory is in bytes.
	Memory int64
	// Pids is how many processes and threads there may be.
	Pids int64
}

const (
	leastShares   = 2
	defaultPeriod = 100_000
)

// Cgroups are the control groups of one node's pods, in every hierarchy that
// this machine has, of version 1, 2 or both.
type Cgroups struct{ root string }

// Parent is what to give to CRI as LinuxPodSandboxConfig.CgroupParent.
func (g Cgroups) Parent(uid string) string { return filepath.Join(g.root, podPrefix+uid) }

// EnsurePod makes the group of a pod with its limits, or changes the limits of
// the group that is there, and returns the parent to give to CRI. The pod's
// sandbox and containers must be created after it, or they make one without.
func (g Cgroups) EnsurePod(uid string, limits Limits) (parent string, err error) {
	parent = g.Parent(uid)
	resources := limits.resources()
	if cgroupmode.Mode() == cgroupmode.Unified {
		_, err = cgroup2.NewManager(unifiedMount, parent, cgroup2.ToResources(resources))
	} else {
		_, err = cgroup1.New(cgroup1.StaticPath(parent), resources)
	}
	if err != nil {
		return "", fmt.Errorf("cannot make the control group %s: %w", parent, err)
	}
	return parent, nil
}

func (l Limits) resources() *specs.LinuxResources {
	shares := max(l.CPUShares, leastShares)
	out := &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}
	if l.CPUQuota > 0 {
		period := l.CPUPeriod
		if period == 0 {
			period = defaultPeriod
		}
		out.CPU.Quota, out.CPU.Period = &l.CPUQuota, &period
	}
	if l.Memory > 0 {
		out.Memory = &specs.LinuxMemory{Limit: &l.Memory}
	}
	if l.Pids > 0 {
		out.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return out
}

// RemovePod removes the group of a pod, and is content if there is none. All the
// pod's containers must have ended.
func (g Cgroups) RemovePod(uid string) error {
	dirs, err := inHierarchies(g.Parent(uid))
	if err != nil {
		return err
	}
	return removeGroups(dirs)
}

// Pods lists the uids of the pods that have a group, to find what was left.
func (g Cgroups) Pods() ([]string, error) {
	dirs, err := inHierarchies(g.root)
	if err != nil {
		return nil, err
	}
	var uids []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if uid, pod := strings.CutPrefix(e.Name(), podPrefix); pod && e.IsDir() {
				uids = append(uids, uid)
			}
		}
	}
	slices.Sort(uids)
	return slices.Compact(uids), nil
}

// removeAll ends every process below the root and removes it.
func (g Cgroups) removeAll() error {
	dirs, err := inHierarchies(g.root)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		for _, pid := range processes(dir) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("cannot kill process %d of %s: %w", pid, dir, err)
			}
		}
	}
	if err := removeGroups(dirs); err != nil {
		return err
	}
	for _, dir := range dirs {
		// Other nodes of this machine may have their groups beside ours.
		_ = os.Remove(filepath.Dir(dir))
	}
	return nil
}

// inHierarchies returns where a group is, if it is, in each hierarchy.
func inHierarchies(group string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("cannot tell where control groups are mounted: %w", err)
	}
	if len(mounts) == 0 {
		return nil, errors.New("no control groups are mounted below " + unifiedMount)
	}
	var dirs []string
	for _, m := range mounts {
		dirs = append(dirs, filepath.Join(m.Mountpoint, group))
	}
	return dirs, nil
}

// tree lists a group and those below it, children first.
func tree(dir string) []string {
	var all []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	slices.Reverse(all)
	return all
}

func processes(dir string) []int {
	var pids []int
	for _, group := range tree(dir) {
		text, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// removeGroups removes groups with all below them. The files in them are not
// files to remove: they go with their directory.
func removeGroups(dirs []string) error {
	for _, dir := range dirs {
		deadline := time.Now().Add(lingering)
		for _, group := range tree(dir) {
			err := os.Remove(group)
			for errors.Is(err, syscall.EBUSY) && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
				err = os.Remove(group)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot remove the control group %s; processes in it: %v: %w", group, processes(group), err)
			}
		}
	}
	return nil
}
