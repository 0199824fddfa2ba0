// Package runtime runs the containerd of one node: it configures it, starts it
// or takes over the one that runs, starts it again when it dies, connects pods
// to the network, keeps their control groups, and takes all of it away again.
// The node agent calls it, and `reprise up` and `reprise down`. It never decides
// what should run, and its own end never ends a container.
package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/wait"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// readyTimeout is how long containerd may take to answer; it takes 30 to 150
	// ms, and longer only while it recovers many pods.
	readyTimeout = time.Minute
	// maxMessage covers the list of all containers of a full node.
	maxMessage = 64 << 20
	// restartSoonest and restartLatest bound the wait before containerd is
	// started again, which doubles while it keeps dying within a minute.
	restartSoonest = 50 * time.Millisecond
	restartLatest  = 5 * time.Second
	steady         = time.Minute
)

// Runtime is a containerd that answers, and is looked after until Close.
type Runtime struct {
	config Config
	conn   *grpc.ClientConn
	lock   *os.File
	own    bool // whether none ran before
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// Start returns when the node's containerd answers: the one that runs, or a new
// one. Containers that run are not disturbed.
func Start(ctx context.Context, config Config) (_ *Runtime, err error) {
	c, err := config.complete()
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	for _, dir := range []string{c.DataDir, c.RunDir, c.root(), c.state(), c.shimSocketDir(), c.cniConfDir(), c.ipamDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("the node cannot make its directory: %w", err)
		}
	}
	r := &Runtime{config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Withdraw())
		}
	}()
	if r.lock, err = lock(c); err != nil {
		return nil, err
	}
	if err := setUpNetwork(ctx, c); err != nil {
		return nil, err
	}
	if r.conn, err = dial(c.Socket()); err != nil {
		return nil, err
	}
	p, err := r.adoptOrSpawn(ctx)
	if err != nil {
		return nil, err
	}
	supervision, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.done.Go(func() { r.supervise(supervision, p) })
	return r, nil
}

// Close lets go of containerd, which goes on running with all containers.
func (r *Runtime) Close() error {
	if r.stop != nil {
		r.stop()
	}
	r.done.Wait()
	var failed error
	if r.conn != nil {
		failed = r.conn.Close()
	}
	if r.lock != nil {
		failed = errors.Join(failed, r.lock.Close())
	}
	return failed
}

// Withdraw is Close for a start that goes no further: a containerd that runs because of
// it ends too. Containers go on.
func (r *Runtime) Withdraw() (err error) {
	if r.own {
		if r.stop != nil {
			r.stop()
		}
		r.done.Wait()
		var p *process
		if p, err = running(r.config); p != nil {
			err = p.stop()
		}
	}
	return errors.Join(err, r.Close())
}

// Config is the configuration with its defaults.
func (r *Runtime) Config() Config { return r.config }

// Containers is CRI's service for pods and containers. Calls fail with
// codes.Unavailable while containerd starts again.
func (r *Runtime) Containers() runtimeapi.RuntimeServiceClient {
	return runtimeapi.NewRuntimeServiceClient(r.conn)
}

// Images is CRI's service for images.
func (r *Runtime) Images() runtimeapi.ImageServiceClient {
	return runtimeapi.NewImageServiceClient(r.conn)
}

// Cgroups are the control groups of the node's pods.
func (r *Runtime) Cgroups() Cgroups { return Cgroups{root: r.config.CgroupRoot()} }

// lock keeps a second process from looking after the same containerd.
func lock(c Config) (*os.File, error) {
	f, err := os.OpenFile(c.lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(
			fmt.Errorf("another process runs the node %s in %s; stop it, or choose another --run-dir: %w", c.Node, c.RunDir, err),
			f.Close())
	}
	return f, nil
}

func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		}))
}

// adoptOrSpawn returns a containerd that answers and has today's configuration.
func (r *Runtime) adoptOrSpawn(ctx context.Context) (*process, error) {
	c := r.config
	wanted, err := c.containerdConfig()
	if err != nil {
		return nil, err
	}
	p, err := running(c)
	if err != nil {
		return nil, err
	}
	r.own = p == nil
	had, err := os.ReadFile(c.configFile())
	if p != nil && (err != nil || !bytes.Equal(had, wanted)) {
		c.Log.Info("containerd starts again, because its configuration changed", "node", c.Node)
		if err := p.stop(); err != nil {
			return nil, err
		}
		p = nil
	}
	if p != nil {
		err := r.ready(ctx, p)
		if err == nil {
			c.Log.Info("took over the containerd that runs", "node", c.Node, "pid", p.pid)
			return p, nil
		}
		if ctx.Err() != nil {
			// Nobody waits for the answer any more, which says nothing about containerd.
			p.release()
			return nil, err
		}
		c.Log.Warn("the containerd that runs does not answer; starting another", "node", c.Node, "pid", p.pid)
		if err := p.stop(); err != nil {
			return nil, err
		}
	}
	if err := writeFile(c.configFile(), wanted); err != nil {
		return nil, err
	}
	return r.spawn(ctx)
}

// spawn starts a containerd and returns when it answers.
func (r *Runtime) spawn(ctx context.Context) (*process, error) {
	p, err := spawn(r.config)
	if err != nil {
		return nil, err
	}
	if err := r.ready(ctx, p); err != nil {
		if ctx.Err() != nil {
			// It is withdrawn, or whoever starts the node next takes it over.
			p.release()
			return nil, err
		}
		return nil, errors.Join(
			fmt.Errorf("containerd does not come up: %w; the end of its log %s:\n%s", err, r.config.LogFile(), logTail(r.config, 8)),
			p.stop())
	}
	return p, nil
}

// ready waits until containerd's CRI says that it can run pods.
func (r *Runtime) ready(ctx context.Context, p *process) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, readyTimeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-p.ended:
			return false, errors.New("it ended at once")
		default:
		}
		r.conn.Connect()
		var answer *runtimeapi.StatusResponse
		if answer, last = r.Containers().Status(ctx, &runtimeapi.StatusRequest{}); last != nil {
			return false, nil
		}
		for _, condition := range answer.GetStatus().GetConditions() {
			// Containerd has conditions of its own that keep nothing from running.
			vital := condition.Type == runtimeapi.RuntimeReady || condition.Type == runtimeapi.NetworkReady
			if vital && !condition.Status {
				last = fmt.Errorf("%s: %s", condition.Type, condition.Message)
			}
		}
		return last == nil, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%w (%w)", err, last)
	}
	return err
}

// supervise starts containerd again whenever it ends, until ctx ends. The shims
// keep the containers meanwhile, and the new containerd takes them over.
func (r *Runtime) supervise(ctx context.Context, p *process) {
	delay := restartSoonest
	for {
		began := time.Now()
		select {
		case <-ctx.Done():
			p.release()
			return
		case <-p.ended:
		}
		p.release()
		if time.Since(began) > steady {
			delay = restartSoonest
		}
		r.config.Log.Warn("containerd ended; starting it again, the containers go on", "node", r.config.Node, "pid", p.pid, "in", delay)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
			delay = min(2*delay, restartLatest)
			var err error
			if p, err = r.spawn(ctx); err == nil {
				break
			}
			if ctx.Err() == nil {
				r.config.Log.Error("cannot start containerd again", "node", r.config.Node, "error", err)
			}
		}
	}
}
