//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// patience is how long the tests wait for what must happen. It is generous: a
// slow machine is no failure; BenchmarkStart and BenchmarkApply measure speed.
const patience = 2 * time.Minute

// cluster is one `reprise up` with directories of its own.
type cluster struct {
	t         testing.TB
	dir, run  string
	verb      string   // what starts it, "up" if empty
	up        []string // what that is told besides
	process   *exec.Cmd
	exited    chan struct{}
	output    *transcript
	restarted int
	// invented is the type of events that the test has put into the log, which no
	// schema describes.
	invented string
}

// transcript collects what a process prints, for failures and for waiting.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// newCluster starts a cluster, and tears it down at the end of the test.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := unstarted(t)
	c.start()
	return c
}

// unstarted is a cluster that the test starts, if at all.
func unstarted(t testing.TB) *cluster {
	t.Helper()
	run, err := os.MkdirTemp("/run", "rp-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: t.TempDir(), run: run}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the server said:\n%s", c.tail())
		}
		c.stop()
		c.checkSchemas()
		if out, err := c.reprise("down", "--purge"); err != nil {
			t.Errorf("reprise down --purge: %v\n%s", err, out)
		}
		if err := os.RemoveAll(run); err != nil {
			t.Errorf("the run directory is still in use after down: %v", err)
		}
	})
	return c
}

func (c *cluster) tail() string {
	if c.output == nil {
		return ""
	}
	s := c.output.String()
	return s[max(0, len(s)-16_000):]
}

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binaries(), name), args...)
	cmd.Dir = repository()
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig(), "HOME="+c.dir,
		"PATH="+binaries()+":"+os.Getenv("PATH"),
		"REPRISE_DATA_DIR="+c.dir, "REPRISE_RUN_DIR="+c.run)
	return cmd
}

func (c *cluster) kubeconfig() string { return filepath.Join(c.dir, "admin.kubeconfig") }

// start runs `reprise up` and waits until it says that the cluster is ready.
func (c *cluster) start() {
	c.t.Helper()
	c.output = &transcript{}
	c.exited = make(chan struct{})
	c.process = c.command("reprise", append([]string{cmp.Or(c.verb, "up")}, c.up...)...)
	c.process.Stdout, c.process.Stderr = c.output, c.output
	c.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.process.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		_ = c.process.Wait()
		close(c.exited)
	}()
	c.eventually("the cluster is ready", func() error {
		select {
		case <-c.exited:
			c.t.Fatalf("reprise up ended: %v\n%s", c.process.ProcessState, c.tail())
		default:
		}
		if !strings.Contains(c.output.String(), "Ready.") {
			return errors.New("it has not said so")
		}
		return nil
	})
}

// stop ends the server as Ctrl-C does.
func (c *cluster) stop() { c.signal(syscall.SIGINT) }

// kill ends the server as a crash does.
func (c *cluster) kill() { c.signal(syscall.SIGKILL) }

func (c *cluster) signal(s syscall.Signal) {
	if c.process == nil {
		return
	}
	_ = c.process.Process.Signal(s)
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.t.Errorf("reprise up did not end within %s of %s", patience, s)
		_ = c.process.Process.Kill()
		<-c.exited
	}
	c.process = nil
}

// run runs one of our binaries and returns what it printed.
func (c *cluster) try(name string, args ...string) (string, error) {
	return c.feed(nil, name, args...)
}

func (c *cluster) feed(stdin io.Reader, name string, args ...string) (string, error) {
	cmd := c.command(name, args...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (c *cluster) reprise(args ...string) (string, error) { return c.try("reprise", args...) }

// must runs a command that has to succeed.
func (c *cluster) must(name string, args ...string) string {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	return c.must("kubectl", args...)
}

// apply applies a manifest given as text.
func (c *cluster) apply(manifest string) string {
	c.t.Helper()
	out, err := c.feed(strings.NewReader(manifest), "kubectl", "apply", "-f", "-")
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// eventually waits until a condition holds.
func (c *cluster) eventually(what string, condition func() error) {
	c.t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(context.Background(), 50*time.Millisecond, patience, true,
		func(context.Context) (bool, error) {
			last = condition()
			return last == nil, nil
		})
	if err != nil {
		c.t.Fatalf("waited %s in vain until %s: %v", patience, what, last)
	}
}

// eventuallyPrints waits until a kubectl command prints just this.
func (c *cluster) eventuallyPrints(want string, args ...string) {
	c.t.Helper()
	c.eventually("kubectl "+strings.Join(args, " ")+" prints "+want, func() error {
		out, err := c.try("kubectl", args...)
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) != want {
			return fmt.Errorf("it prints %q", out)
		}
		return nil
	})
}
