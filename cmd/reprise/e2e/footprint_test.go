//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/reprise-run/reprise/agents/node/runtime"
)

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: reprise.run/demo:1
        ports: [{containerPort: 8080, hostPort: 0}]
        volumeMounts: [{name: scratch, mountPath: /scratch}]
      volumes: [{name: scratch, emptyDir: {medium: Memory}}]
`

// TestDown shows that `reprise down` takes away all that ran, that `up` brings
// it back, and that `down --purge` leaves nothing at all.
func TestDown(t *testing.T) {
	c := unstarted(t)
	before := c.footprint()
	c.start()
	c.apply(web)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	uids := []string{"get", "deployments,replicasets", "-o", "jsonpath={.items[*].metadata.uid}"}
	had := c.kubectl(uids...)
	if during := c.footprint(); len(during) < len(before)+8 {
		t.Fatalf("two pods left hardly a trace, so the test does not look where it should: %q", during)
	}
	c.stop()
	if !strings.Contains(c.containers(), "demo") {
		t.Error("the end of the server has ended the containers")
	}
	c.must("reprise", "down")
	c.leaves(before)
	c.start()
	if has := c.kubectl(uids...); has != had {
		t.Errorf("after down and up the objects are others: %s, not %s", has, had)
	}
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	c.eventually("the pods run again", func() error {
		if !strings.Contains(c.containers(), "demo") {
			return errors.New("no container runs")
		}
		return nil
	})
	c.kill()
	c.must("reprise", "down", "--purge")
	c.leaves(before)
	for _, dir := range []string{c.dir, c.run} {
		left, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for _, entry := range left {
			if entry.Name() != ".kube" { // kubectl's cache: the tests' HOME is there
				t.Errorf("reprise down --purge leaves %s", filepath.Join(dir, entry.Name()))
			}
		}
	}
	if out := c.must("reprise", "down", "--purge"); strings.Contains(out, "rror") {
		t.Errorf("down where nothing is printed:\n%s", out)
	}
}

// leaves checks that nothing more is on the machine than before. The kernel takes links
// away a moment after their namespace.
func (c *cluster) leaves(before []string) {
	c.t.Helper()
	c.eventually("reprise down leaves nothing", func() error {
		if after := c.footprint(); !slices.Equal(after, before) {
			return fmt.Errorf("it leaves:\n%s", strings.Join(without(after, before), "\n"))
		}
		return nil
	})
}

func without(all, known []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(known, s) })
}

// footprint lists all of this cluster's that is on the machine: mounts, links,
// nft tables, control groups, processes, and libcni's notes.
func (c *cluster) footprint() []string {
	c.t.Helper()
	mounts, err := mountinfo.GetMounts(nil)
	check(c.t, err)
	group := c.node().CgroupRoot()
	var all []string
	for _, m := range mounts {
		if strings.HasPrefix(m.Mountpoint, c.dir+"/") || strings.HasPrefix(m.Mountpoint, c.run+"/") {
			all = append(all, "mount "+m.Mountpoint)
		}
		if strings.HasPrefix(m.FSType, "cgroup") {
			all = append(all, below(m.Mountpoint, group)...)
		}
	}
	// The tests have a network namespace to themselves.
	links, err := net.Interfaces()
	check(c.t, err)
	for _, link := range links {
		all = append(all, "link "+link.Name)
	}
	tables, err := exec.Command("nft", "list", "tables").Output()
	check(c.t, err)
	all = append(all, strings.Fields(strings.ReplaceAll(string(tables), " ", "_"))...)
	all = append(all, processesOf(c)...)
	notes, err := filepath.Glob("/var/lib/cni/results/*" + filepath.Base(group) + "-*")
	check(c.t, err)
	all = append(all, notes...)
	slices.Sort(all)
	return slices.Compact(all)
}

// node is where the cluster's one node is.
func (c *cluster) node() runtime.Config {
	name, err := os.Hostname()
	check(c.t, err)
	name = strings.ToLower(name)
	return runtime.Config{Node: name, RunDir: filepath.Join(c.run, name), DataDir: filepath.Join(c.dir, "nodes", name)}
}

// below lists the control groups of a node in one hierarchy.
func below(mount, group string) []string {
	var all []string
	_ = filepath.WalkDir(mount, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(path, mount+group) {
			all = append(all, "cgroup "+path)
		}
		return nil
	})
	return all
}

// processesOf lists the server, containerd and the shims of a cluster: they name
// its directories in their arguments or in their environment.
func processesOf(c *cluster) []string {
	var all []string
	for _, pid := range pids(c) {
		line, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		all = append(all, "process "+pid+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))))
	}
	return all
}

func pids(c *cluster) []string {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	check(c.t, err)
	var all []string
	for _, dir := range dirs {
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		environment, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if bytes.Contains(line, []byte(c.run)) || bytes.Contains(environment, []byte("REPRISE_RUN_DIR="+c.run+"\x00")) {
			all = append(all, filepath.Base(dir))
		}
	}
	return all
}

// in is the cluster for a subtest.
func (c *cluster) in(t testing.TB) *cluster {
	was := c.t
	c.t = t
	t.Cleanup(func() { c.t = was })
	return c
}

// events prints the whole log.
func (c *cluster) events() string {
	c.t.Helper()
	return c.must("reprise", "events")
}

// commands prints all that people have told the cluster to do, and it has done.
func (c *cluster) commands() string {
	c.t.Helper()
	return c.must("reprise", "history", "-A", "--user", "admin")
}

// atRest is a condition that holds when nothing was appended for a while.
func (c *cluster) atRest() func() error {
	last, since := "", time.Now()
	return func() error {
		if now := c.events(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 2*time.Second {
			return errors.New("events are still appended")
		}
		return nil
	}
}

// state is what tells the objects of a cluster from those of another.
func (c *cluster) state() string {
	c.t.Helper()
	return c.kubectl("get", "nodes,namespaces,deployments,replicasets,pods,services,configmaps,serviceaccounts,clusterroles", "-A", "-o",
		`jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid} {.metadata.resourceVersion}{"\n"}{end}`)
}

// containers lists the processes of containers with the time of their start.
func (c *cluster) containers() string {
	group := c.node().CgroupRoot()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	check(c.t, err)
	var all strings.Builder
	for _, dir := range dirs {
		groups, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
		if fields := strings.Fields(string(stat)); bytes.Contains(groups, []byte(group+"/")) && len(fields) > 21 {
			all.WriteString(strings.Join([]string{fields[0], fields[1], fields[21]}, " ") + "\n")
		}
	}
	return all.String()
}

// asNobody has a command run without root's rights.
func asNobody(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// linkAll installs a directory of programs elsewhere, but for one of them.
func linkAll(t *testing.T, from, dir, to, missing string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Join(to, dir), 0o755))
	entries, err := os.ReadDir(filepath.Join(from, dir))
	check(t, err)
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if name == missing || e.IsDir() {
			continue
		}
		check(t, copyFile(filepath.Join(from, name), filepath.Join(to, name)))
	}
}

func copyFile(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
