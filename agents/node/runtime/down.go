package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// stopsAtOnce bounds how many pods are stopped in parallel.
	stopsAtOnce = 16
	// politeStop bounds the orderly part; what is left is removed by force.
	politeStop = time.Minute
)

// Down ends every pod of the node and its containerd, and takes away what they
// left on the machine: processes, mounts, network namespaces, nft tables, control
// groups and the run directory. With purge, the data directory goes too. It works
// after a crash, and is content if there is nothing.
func Down(ctx context.Context, config Config, purge bool) error {
	c, err := config.complete()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("stopping containers needs root; run it with sudo")
	}
	if _, err := os.Stat(c.RunDir); err == nil {
		held, err := lock(c)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	if err := stopPods(ctx, c); err != nil {
		c.Log.Warn("not all pods stopped in order; removing the rest by force", "node", c.Node, "error", err)
	}
	return errors.Join(
		endContainerd(c),
		endShims(ctx, c),
		Cgroups{root: c.CgroupRoot()}.removeAll(),
		detach(ctx, c),
		unmountBelow(c.RunDir, c.DataDir),
		tearDownNetwork(ctx, c),
		removeDirs(c, purge),
	)
}

// stopPods removes all pods by CRI, so that CNI gives back their addresses and
// host ports. If there are traces of pods and no containerd, it starts one.
func stopPods(ctx context.Context, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, politeStop)
	defer cancel()
	p, err := running(c)
	if err != nil {
		return err
	}
	if p == nil && !traces(c) {
		return nil
	}
	r := &Runtime{config: c}
	if r.conn, err = dial(c.Socket()); err != nil {
		return err
	}
	defer r.conn.Close()
	if p == nil {
		if p, err = r.spawn(ctx); err != nil {
			return err
		}
	}
	defer p.release()
	pods, err := r.Containers().ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("cannot list pods: %w", err)
	}
	var all errgroup.Group
	all.SetLimit(stopsAtOnce)
	for _, pod := range pods.Items {
		all.Go(func() error {
			if _, err := r.Containers().StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
				return fmt.Errorf("cannot stop pod %s/%s: %w", pod.Metadata.GetNamespace(), pod.Metadata.GetName(), err)
			}
			_, err := r.Containers().RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.Id})
			return err
		})
	}
	return all.Wait()
}

// traces says whether containerd has run here since the last Down and could run
// again.
func traces(c Config) bool {
	for _, file := range []string{c.configFile(), c.containerd()} {
		if _, err := os.Stat(file); err != nil {
			return false
		}
	}
	return true
}

func endContainerd(c Config) error {
	p, err := running(c)
	if err != nil || p == nil {
		return err
	}
	return p.stop()
}

// endShims kills the shims that an orderly stop did not end. A shim names the
// socket of its containerd among its arguments.
func endShims(ctx context.Context, c Config) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var shims []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !commandLine(pid, "-address", c.Socket()) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot kill the shim %d: %w", pid, err)
		}
		shims = append(shims, pid)
	}
	return awaitEnd(ctx, shims)
}

// unmountBelow unmounts everything below directories of ours, the deepest and
// the last first. A network namespace ends with its mount.
func unmountBelow(dirs ...string) error {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fmt.Errorf("cannot list mounts: %w", err)
	}
	slices.Reverse(mounts)
	var failed error
	for _, m := range mounts {
		below := slices.ContainsFunc(dirs, func(dir string) bool {
			return strings.HasPrefix(m.Mountpoint, dir+"/")
		})
		if !below {
			continue
		}
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			failed = errors.Join(failed, fmt.Errorf("cannot unmount %s: %w", m.Mountpoint, err))
		}
	}
	return failed
}

// removeDirs removes the run directory, and with purge the data directory. It
// must come after unmounting, and does not reach through a mount that is left.
func removeDirs(c Config, purge bool) error {
	dirs := []string{c.RunDir}
	if purge {
		dirs = append(dirs, c.DataDir)
	}
	for _, dir := range dirs {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if m.Mountpoint != dir {
				return fmt.Errorf("not removing %s, because %s is still mounted there", dir, m.Mountpoint)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot remove %s: %w", dir, err)
		}
	}
	return nil
}
