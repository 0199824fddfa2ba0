// Package streams serves what people ask of a running container through the API:
// its logs, commands run in it, its standard streams, and its ports. The API
// server calls it by the paths and in the protocols of a kubelet, over whatever
// connection the node agent was given.
//
// It opens no port itself, decides nothing about who may ask (the API server has
// done so), and keeps nothing.
package streams

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Container is one attempt at a container, as it was found.
type Container struct {
	ID  string
	Log string // the path of its log
}

// Pods finds what requests are about. Their errors are *Error.
type Pods interface {
	// Container finds the newest attempt at a container that has started, or the
	// one before.
	Container(ctx context.Context, namespace, pod, container string, previous bool) (Container, error)
	// Running finds a container that runs.
	Running(ctx context.Context, namespace, pod, container string) (id string, err error)
	// Sandbox finds the pod's sandbox.
	Sandbox(ctx context.Context, namespace, pod string) (id string, err error)
	// List returns the node's pods.
	List() []v1.Pod
}

// Error is an answer to a request that cannot be fulfilled.
type Error struct {
	Code    int
	Message string
}

func (e *Error) Error() string { return e.Message }

// Server answers requests.
type Server struct {
	pods    Pods
	runtime runtimeapi.RuntimeServiceClient
}

// Handler returns the handler of all the paths.
func Handler(pods Pods, runtime runtimeapi.RuntimeServiceClient) http.Handler {
	s := &Server{pods: pods, runtime: runtime}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("GET /pods", s.list)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.logs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", s.exec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", s.attach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", s.portForward)
	return mux
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	code, message := http.StatusInternalServerError, err.Error()
	if e, ok := err.(*Error); ok {
		code = e.Code
	}
	http.Error(w, message, code)
}

// exec runs a command in a container. The runtime serves the streams; they are
// only passed on.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	id, err := s.pods.Running(r.Context(), r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"))
	if err != nil {
		refuse(w, err)
		return
	}
	q := r.URL.Query()
	answer, err := s.runtime.Exec(r.Context(), &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: q["command"], Tty: on(q, "tty"), Stdin: on(q, "input"), Stdout: on(q, "output"),
		Stderr: on(q, "error") && !on(q, "tty"),
	})
	if err != nil {
		refuse(w, fmt.Errorf("the container runtime cannot run the command: %w", err))
		return
	}
	pass(w, r, answer.Url)
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	id, err := s.pods.Running(r.Context(), r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"))
	if err != nil {
		refuse(w, err)
		return
	}
	q := r.URL.Query()
	answer, err := s.runtime.Attach(r.Context(), &runtimeapi.AttachRequest{
		ContainerId: id, Tty: on(q, "tty"), Stdin: on(q, "input"), Stdout: on(q, "output"), Stderr: on(q, "error") && !on(q, "tty"),
	})
	if err != nil {
		refuse(w, fmt.Errorf("the container runtime cannot attach: %w", err))
		return
	}
	pass(w, r, answer.Url)
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	id, err := s.pods.Sandbox(r.Context(), r.PathValue("namespace"), r.PathValue("pod"))
	if err != nil {
		refuse(w, err)
		return
	}
	var ports []int32
	for _, list := range r.URL.Query()["port"] {
		for text := range strings.SplitSeq(list, ",") {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				refuse(w, &Error{http.StatusBadRequest, fmt.Sprintf("%q is no port", text)})
				return
			}
			ports = append(ports, int32(port))
		}
	}
	answer, err := s.runtime.PortForward(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: id, Port: ports})
	if err != nil {
		refuse(w, fmt.Errorf("the container runtime cannot forward ports: %w", err))
		return
	}
	pass(w, r, answer.Url)
}

// on says whether a parameter is set, in the kubelet's way or the API's.
func on(q url.Values, name string) bool {
	switch name {
	case "input":
		return isSet(q.Get("input")) || isSet(q.Get("stdin"))
	case "output":
		return isSet(q.Get("output")) || isSet(q.Get("stdout"))
	case "error":
		return isSet(q.Get("error")) || isSet(q.Get("stderr"))
	}
	return isSet(q.Get(name))
}

func isSet(v string) bool { return v == "1" || v == "true" }

// pass hands the connection to the runtime's streaming server.
func pass(w http.ResponseWriter, r *http.Request, to string) {
	location, err := url.Parse(to)
	if err != nil {
		refuse(w, fmt.Errorf("the container runtime answered with an address that is none: %w", err))
		return
	}
	var transport http.RoundTripper
	if strings.HasPrefix(strings.ToUpper(r.Header.Get("Upgrade")), "SPDY/") {
		transport = quietly
	}
	// Of its own address the runtime takes no query but its token.
	handler := proxy.NewUpgradeAwareHandler(location, transport, false, true, responder{})
	handler.ServeHTTP(w, r)
}

type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, "the container runtime's streams cannot be reached: "+err.Error(), http.StatusBadGateway)
}
