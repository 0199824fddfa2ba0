package runtime

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"k8s.io/apimachinery/pkg/util/wait"
)

func example() Config {
	return Config{
		Node:       "n1",
		DataDir:    "/var/lib/reprise/nodes/n1",
		RunDir:     "/run/reprise/n1",
		BinDir:     "/opt/reprise/bin",
		PodCIDR:    netip.MustParsePrefix("10.244.3.0/24"),
		PauseImage: "reprise.run/pause:1",
	}
}

// TestWrittenFiles shows what containerd and CNI are told.
func TestWrittenFiles(t *testing.T) {
	c, err := example().complete()
	if err != nil {
		t.Fatal(err)
	}
	datadriven.RunTest(t, "testdata/written.txt", func(t *testing.T, d *datadriven.TestData) string {
		write := map[string]func() ([]byte, error){
			"containerd": c.containerdConfig,
			"cni":        func() ([]byte, error) { return cniConflist(c) },
		}[d.Cmd]
		content, err := write()
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	})
}

func TestProgramsOfTheNodeAreFoundFirst(t *testing.T) {
	for ours, want := range map[string]string{
		"PATH=/usr/bin:/bin": "PATH=/opt/reprise/bin:/usr/bin:/bin",
		"PATH=":              "PATH=/opt/reprise/bin",
		"HOME=/root":         "PATH=/opt/reprise/bin",
	} {
		cmd := exec.Command("true")
		cmd.Env = environ(example(), []string{ours, "LANG=C"})
		got := slices.DeleteFunc(cmd.Environ(), func(v string) bool { return !strings.HasPrefix(v, "PATH=") })
		if !slices.Equal(got, []string{want}) {
			t.Errorf("with %s it is %q", ours, got)
		}
	}
}

func TestNodesOfOneNameStayApart(t *testing.T) {
	here, elsewhere := example(), example()
	elsewhere.RunDir = "/tmp/test/n1"
	if here.CgroupRoot() != "/reprise/n1" {
		t.Errorf("in the usual place the group is %s", here.CgroupRoot())
	}
	if here.CgroupRoot() == elsewhere.CgroupRoot() || here.network() == elsewhere.network() {
		t.Error("two nodes of one name share their group or table")
	}
}

func TestLimits(t *testing.T) {
	least := Limits{}.resources()
	if *least.CPU.Shares != 2 || least.CPU.Quota != nil || least.Memory != nil || least.Pids != nil {
		t.Errorf("no limits give %+v", least)
	}
	full := Limits{CPUShares: 512, CPUQuota: 50_000, Memory: 1 << 20, Pids: 7}.resources()
	if *full.CPU.Shares != 512 || *full.CPU.Quota != 50_000 || *full.CPU.Period != 100_000 ||
		*full.Memory.Limit != 1<<20 || *full.Pids.Limit != 7 {
		t.Errorf("all limits give %+v", full)
	}
}

func TestTreeListsChildrenFirst(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(root, "a", "b"), filepath.Join(root, "a"), root}
	if got := tree(root); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := tree(filepath.Join(root, "none")); len(got) != 0 {
		t.Errorf("nothing has %v in it", got)
	}
}

func TestLogTail(t *testing.T) {
	c := Config{DataDir: t.TempDir()}
	if got := logTail(c, 2); got != "" {
		t.Errorf("without a log: %q", got)
	}
	if err := os.WriteFile(c.LogFile(), []byte(strings.Repeat("early\n", 5)+"one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := logTail(c, 2); got != "one\ntwo" {
		t.Errorf("got %q", got)
	}
}

func TestCommandLine(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	// Start returns when the program is loaded, a moment before its arguments can
	// be read.
	if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return alive(pid) && commandLine(pid, "60"), nil
	}); err != nil {
		t.Error("a process that runs is not found")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if alive(pid) {
		t.Error("a process that ended is alive")
	}
	if commandLine(os.Getpid(), "--no-such-argument") {
		t.Error("found what is not there")
	}
}
