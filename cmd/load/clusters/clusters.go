// Package clusters starts clusters to put load on, each from nothing, in
// directories of its own and as processes of this machine, and stops them without
// a trace: [Reprise], and what it is compared with, [Upstream].
package clusters

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/reprise-run/reprise/cmd/load"
)

// PodsPerNode is how many pods each node takes.
const PodsPerNode = 110

// Options say what to start.
type Options struct {
	// Binaries is where the programs are.
	Binaries string
	// Dir is where they keep what they keep; it must not exist, and is removed at the
	// end.
	Dir string
	// Nodes is how many nodes there are. Lost of them are run by a process of their
	// own, which Target.Fail kills.
	Nodes, Lost int
	// Arguments are added to those of the server of Reprise, and Environment, as in
	// GOGC=200, to that of upstream's programs.
	Arguments, Environment []string
}

// Cluster is one that runs.
type Cluster struct {
	load.Target
	// Kubeconfig is the path of one for an administrator.
	Kubeconfig string
	// Profiles is where the control plane answers `go tool pprof`, if it does, and
	// NodesProfiles where those do that stand for the nodes that are to stay.
	Profiles, NodesProfiles string

	o           Options
	environment []string   // of the programs, besides this one's
	processes   []*process // in the order of their start
}

// process is a program that was started.
type process struct {
	name  string
	cmd   *exec.Cmd
	out   string // the path of what it prints
	ended chan struct{}
	// killed says that it is meant to end.
	killed atomic.Bool
}

// begin makes the directory, and has the programs read from the disk.
func begin(side string, o Options) (*Cluster, error) {
	if err := uncache(o.Binaries); err != nil {
		return nil, err
	}
	if err := os.Mkdir(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("a cluster for measuring needs a new directory: %w", err)
	}
	c := &Cluster{o: o, Target: load.Target{Side: side, Control: load.Processes{}, Nodes: load.Processes{}}}
	c.Ended = c.ended
	return c, nil
}

// start runs a program until Stop, and counts it in one of the groups.
func (c *Cluster) start(group load.Processes, name, program string, args ...string) (*process, error) {
	out, err := os.Create(filepath.Join(c.o.Dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{name: name, out: out.Name(), ended: make(chan struct{}), cmd: exec.Command(filepath.Join(c.o.Binaries, program), args...)}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir, p.cmd.Env = out, out, c.o.Dir, append(os.Environ(), c.environment...)
	// If this program is killed, what it has started ends too: the kernel goes by the
	// thread that started it, which therefore waits for it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // why it ended is in what it printed
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	c.processes = append(c.processes, p)
	group[name] = p.cmd.Process.Pid
	return p, nil
}

// kill ends a process at once.
func (p *process) kill() error {
	p.killed.Store(true)
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	<-p.ended
	return err
}

// Stop ends all processes, the last first, and removes what they have kept.
func (c *Cluster) Stop() error {
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		p := c.processes[i]
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			errs = append(errs, p.kill())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(c.o.Dir))...)
}

// await waits until something answers, or one of the processes has ended.
func (c *Cluster) await(ctx context.Context, what string, is func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var last error
	for every := time.NewTicker(100 * time.Millisecond); ; {
		try, stop := context.WithTimeout(ctx, 5*time.Second)
		last = is(try)
		stop()
		if last == nil {
			every.Stop()
			return nil
		}
		if err := c.ended(); err != nil {
			return fmt.Errorf("instead of %s: %w", what, err)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), last))
		}
	}
}

// ended says which process has ended that was not killed, and what it has printed last.
func (c *Cluster) ended() error {
	for _, p := range c.processes {
		select {
		case <-p.ended:
			if !p.killed.Load() {
				return fmt.Errorf("%s has ended (%v), and printed last:\n%s", p.name, p.cmd.ProcessState, tail(p.out))
			}
		default:
		}
	}
	return nil
}

// tail is the end of what a program has printed.
func tail(path string) string {
	text, _ := os.ReadFile(path)
	return string(text[max(0, len(text)-2000):])
}

// use reads the kubeconfig, and waits until who is in it is served.
func (c *Cluster) use(ctx context.Context) error {
	return c.await(ctx, "serving the API", func(ctx context.Context) error {
		config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		c.Config = config
		_, err = client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// client is one of the cluster.
func (c *Cluster) client() (kubernetes.Interface, error) {
	return kubernetes.NewForConfig(load.Client(rest.CopyConfig(c.Config)))
}

// addresses are of this machine and free: another program could take one before
// it is used, which the one that it was meant for then says.
func addresses(n int) (out []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// port is that of an address.
func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
