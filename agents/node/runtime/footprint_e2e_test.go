//go:build e2e

package runtime_test

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"

	"github.com/reprise-run/reprise/agents/node/runtime"
)

// footprint lists all that a node may leave on a machine: mounts (network
// namespaces among them), links, nft tables, control groups, processes,
// directories, and libcni's notes.
func footprint(t *testing.T, c runtime.Config) []string {
	t.Helper()
	var all []string
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		all = append(all, "mount "+m.Mountpoint)
		if strings.HasPrefix(m.FSType, "cgroup") {
			all = append(all, below(m.Mountpoint, "/"+c.Node)...)
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		all = append(all, "link "+link.Name)
	}
	tables, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(tables)), "\n") {
		if line != "" {
			all = append(all, line)
		}
	}
	all = append(all, processesOf(t, c)...)
	notes, _ := filepath.Glob("/var/lib/cni/results/reprise-" + c.Node + "-*")
	all = append(all, notes...)
	for _, dir := range []string{filepath.Join(c.RunDir, "*"), filepath.Join(c.DataDir, "*")} {
		left, _ := filepath.Glob(dir)
		all = append(all, left...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// below lists the control groups that belong to a node.
func below(mount, name string) []string {
	var all []string
	_ = filepath.WalkDir(mount, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, "/reprise"+name) {
			all = append(all, "cgroup "+path)
		}
		return nil
	})
	return all
}

func processesOf(t *testing.T, c runtime.Config) []string {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range lines {
		line, _ := os.ReadFile(file)
		if strings.Contains(string(line), c.RunDir) {
			all = append(all, "process "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return all
}
