// Package hooks does what a container's lifecycle hooks and probes ask for: run
// a command in the container, send a request to it, connect to it, or wait. The
// node agent calls it after a container's start and before its end, and the
// probes at intervals.
//
// It judges nothing: what a failure means is for the caller to say.
package hooks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/probe"
	grpcprobe "k8s.io/kubernetes/pkg/probe/grpc"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"
)

// Runtime runs commands in containers.
type Runtime interface {
	ExecSync(ctx context.Context, in *runtimeapi.ExecSyncRequest, opts ...grpc.CallOption) (*runtimeapi.ExecSyncResponse, error)
}

// Target is the container that a hook is about.
type Target struct {
	Spec *v1.Container
	ID   string
	// IP is the pod's address.
	IP string
}

// Caller carries hooks out.
type Caller struct {
	runtime Runtime
	http    httpprobe.Prober
	grpc    grpcprobe.Prober
}

// NewCaller returns a caller that runs commands by the runtime.
func NewCaller(runtime Runtime) *Caller {
	return &Caller{runtime: runtime, http: httpprobe.New(false), grpc: grpcprobe.New()}
}

// hookTimeout is how long a request to a container may take where nothing else
// limits it.
const hookTimeout = 30 * time.Second

// Lifecycle carries out a postStart or preStop hook, within ctx.
func (c *Caller) Lifecycle(ctx context.Context, h *v1.LifecycleHandler, t Target) error {
	timeout := hookTimeout
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	switch {
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case h.Exec != nil:
		// Without a deadline a command may take as long as it likes.
		if _, ok := ctx.Deadline(); !ok {
			timeout = 0
		}
		return c.exec(ctx, t.ID, h.Exec.Command, timeout)
	case h.HTTPGet != nil:
		return c.get(ctx, h.HTTPGet, t, "lifecycle", timeout)
	case h.TCPSocket != nil:
		return connect(ctx, h.TCPSocket, t, timeout)
	}
	return nil
}

// Probe carries out one probe and returns why it failed, or nil.
func (c *Caller) Probe(ctx context.Context, p *v1.Probe, t Target) error {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	switch {
	case p.Exec != nil:
		return c.exec(ctx, t.ID, p.Exec.Command, timeout)
	case p.HTTPGet != nil:
		return c.get(ctx, p.HTTPGet, t, "probe", timeout)
	case p.TCPSocket != nil:
		return connect(ctx, p.TCPSocket, t, timeout)
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return verdict(c.grpc.Probe(t.IP, service, int(p.GRPC.Port), timeout, grpcprobe.ProbeOptions{}))
	}
	return nil
}

// maxOutput is how much of a command's output is told.
const maxOutput = 1024

func (c *Caller) exec(ctx context.Context, id string, command []string, timeout time.Duration) error {
	seconds := int64((timeout + time.Second - 1) / time.Second)
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout+2*time.Second)
		defer cancel()
	}
	r, err := c.runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: seconds})
	if err != nil {
		return fmt.Errorf("command %q: %w", command, err)
	}
	if r.ExitCode != 0 {
		out := append(r.Stdout, r.Stderr...)
		if len(out) > maxOutput {
			out = out[:maxOutput]
		}
		return fmt.Errorf("command %q exited with code %d: %s", command, r.ExitCode, out)
	}
	return nil
}

func (c *Caller) get(ctx context.Context, action *v1.HTTPGetAction, t Target, who string, timeout time.Duration) error {
	req, err := httpprobe.NewRequestForHTTPGetAction(action, t.Spec, t.IP, who)
	if err != nil {
		return err
	}
	return verdict(c.http.Probe(req.WithContext(ctx), timeout))
}

// connect is what Kubernetes' own TCP probe does, which cannot be cut short.
func connect(ctx context.Context, action *v1.TCPSocketAction, t Target, timeout time.Duration) error {
	port, err := probe.ResolveContainerPort(action.Port, t.Spec)
	if err != nil {
		return err
	}
	host := action.Host
	if host == "" {
		host = t.IP
	}
	dialer := probe.ProbeDialer()
	dialer.Timeout = timeout
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	// That it was opened is what was asked; how it closes says nothing of the container.
	_ = conn.Close()
	return nil
}

func verdict(r probe.Result, output string, err error) error {
	switch {
	case err != nil:
		return err
	case r == probe.Success, r == probe.Warning:
		return nil
	}
	return errors.New(output)
}
