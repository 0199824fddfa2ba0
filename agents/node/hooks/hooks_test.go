package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/hooks"
)

// runtime answers commands by their name.
type runtime struct{ asked *runtimeapi.ExecSyncRequest }

func (r *runtime) ExecSync(_ context.Context, in *runtimeapi.ExecSyncRequest, _ ...grpc.CallOption) (*runtimeapi.ExecSyncResponse, error) {
	r.asked = in
	switch in.Cmd[0] {
	case "true":
		return &runtimeapi.ExecSyncResponse{}, nil
	case "false":
		return &runtimeapi.ExecSyncResponse{ExitCode: 3, Stdout: []byte("out "), Stderr: []byte("err")}, nil
	}
	return nil, errors.New("deadline exceeded")
}

// port splits the address of a server on loopback.
func port(t *testing.T, address string) intstr.IntOrString {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return intstr.FromInt32(int32(n))
}

func TestProbe(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/well" || r.Header.Get("X-Who") != "me" {
			http.Error(w, "ill", http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	checks := health.NewServer()
	checks.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, checks)
	go func() { _ = server.Serve(l) }()
	defer server.Stop()

	at := port(t, web.Listener.Addr().String())
	rpc := port(t, l.Addr().String()).IntVal
	target := hooks.Target{ID: "c1", IP: "127.0.0.1", Spec: &v1.Container{Ports: []v1.ContainerPort{{Name: "web", ContainerPort: at.IntVal}}}}
	sick := "sick"
	get := func(path string, port intstr.IntOrString) v1.ProbeHandler {
		return v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: path, Port: port, HTTPHeaders: []v1.HTTPHeader{{Name: "X-Who", Value: "me"}}}}
	}
	for name, test := range map[string]struct {
		handler v1.ProbeHandler
		want    string
	}{
		"exec well":     {v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}, ""},
		"exec ill":      {v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"false"}}}, "exited with code 3: out err"},
		"exec late":     {v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"sleep"}}}, "deadline exceeded"},
		"http well":     {get("/well", at), ""},
		"http by name":  {get("/well", intstr.FromString("web")), ""},
		"http ill":      {get("/ill", at), "statuscode: 503"},
		"http no port":  {get("/well", intstr.FromString("none")), "none"},
		"tcp well":      {v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: at}}, ""},
		"tcp ill":       {v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(1)}}, "connection refused"},
		"grpc well":     {v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: rpc}}, ""},
		"grpc not well": {v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: rpc, Service: &sick}}, "NOT_SERVING"},
	} {
		err := hooks.NewCaller(&runtime{}).Probe(t.Context(), &v1.Probe{ProbeHandler: test.handler, TimeoutSeconds: 5}, target)
		if got := fmt.Sprint(err); test.want == "" && err != nil || !strings.Contains(got, test.want) {
			t.Errorf("%s says %q, want %q", name, got, test.want)
		}
	}
}

func TestLifecycle(t *testing.T) {
	r := &runtime{}
	c := hooks.NewCaller(r)
	run := &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}
	if err := c.Lifecycle(t.Context(), run, hooks.Target{ID: "c1"}); err != nil || r.asked.Timeout != 0 || r.asked.ContainerId != "c1" {
		t.Errorf("a hook with all the time there is: %v, %v", err, r.asked)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := c.Lifecycle(ctx, run, hooks.Target{ID: "c1"}); err != nil || r.asked.Timeout != 5 {
		t.Errorf("a hook with five seconds: %v, %v", err, r.asked)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	nap := &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 3600}}
	if err := c.Lifecycle(soon, nap, hooks.Target{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a long sleep in a short grace: %v", err)
	}
	if err := c.Lifecycle(t.Context(), &v1.LifecycleHandler{Sleep: &v1.SleepAction{}}, hooks.Target{}); err != nil {
		t.Errorf("no sleep at all: %v", err)
	}
}

// TestCutShort: no hook outlasts the caller, who need not have said beforehand when that is.
func TestCutShort(t *testing.T) {
	asked, done := make(chan struct{}), make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-done
	}))
	defer web.Close()
	defer close(done)
	at := port(t, web.Listener.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	c, target := hooks.NewCaller(&runtime{}), hooks.Target{Spec: &v1.Container{}, IP: "127.0.0.1"}
	ask := &v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Port: at, Scheme: v1.URISchemeHTTP}}
	if err := c.Lifecycle(ctx, ask, target); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a request whose caller has gone: %v", err)
	}
	reach := &v1.LifecycleHandler{TCPSocket: &v1.TCPSocketAction{Port: at}}
	if err := c.Lifecycle(t.Context(), reach, target); err != nil {
		t.Errorf("a connection: %v", err)
	}
	if err := c.Lifecycle(ctx, reach, target); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a connection whose caller has gone: %v", err)
	}
}
