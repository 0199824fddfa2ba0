package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	restclient "k8s.io/client-go/rest"
	clientexec "k8s.io/client-go/tools/remotecommand"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/reprise-run/reprise/agents/api"
)

// agent is what a node serves, as far as the API server asks for it.
type agent struct {
	t     *testing.T
	peers chan *x509.Certificate
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const patience = 10 * time.Second
	select {
	case a.peers <- r.TLS.PeerCertificates[0]:
	default:
	}
	switch part := strings.Split(r.URL.Path, "/"); part[1] {
	case "containerLogs":
		if part[4] == "starting" {
			http.Error(w, `container "starting" in pod "p" is waiting to start`, http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "logs of %s, %s\n", strings.Join(part[2:], "/"), r.URL.RawQuery)
	case "exec":
		o, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, r, a, "p", "", "c", r.URL.Query()["command"], o, patience, patience, remotecommand.SupportedStreamingProtocols)
	case "portForward":
		portforward.ServePortForward(w, r, a, "p", "", nil, patience, patience, portforward.SupportedProtocols)
	default:
		http.NotFound(w, r)
	}
}

// ExecInContainer answers with its command and what it reads.
func (a *agent) ExecInContainer(_ context.Context, _, _, _ string, cmd []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	fmt.Fprintf(out, "%s: ", strings.Join(cmd, " "))
	_, err := io.Copy(out, in)
	return err
}

// PortForward answers with what it reads.
func (a *agent) PortForward(_ context.Context, _, _ string, _ int32, stream io.ReadWriteCloser) error {
	_, err := io.Copy(stream, stream)
	return err
}

// TestNodeConnections lets clients reach into a container through a dialer.
func TestNodeConnections(t *testing.T) {
	a := &agent{t: t, peers: make(chan *x509.Certificate, 1)}
	node := httptest.NewUnstartedServer(a)
	node.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"http/1.1"}}
	node.StartTLS()
	defer node.Close()
	dialed := make(chan string, 10)
	s := start(t, func(o *api.Options) {
		o.Dial = func(ctx context.Context, name string) (net.Conn, error) {
			dialed <- name
			return new(net.Dialer).DialContext(ctx, "tcp", node.Listener.Addr().String())
		}
	})
	s.namespace(t, "shop")
	ctx := t.Context()
	n, err := s.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}}
	if _, err := s.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := pod("shop", "p")
	p.Spec.NodeName = "n1"
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "starting", Image: "demo:1"})
	if _, err := s.CoreV1().Pods("shop").Create(ctx, p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	logs, err := s.CoreV1().Pods("shop").GetLogs("p", &corev1.PodLogOptions{Container: "c", Previous: true}).DoRaw(ctx)
	if want := "logs of shop/p/c, previous=true\n"; err != nil || string(logs) != want {
		t.Errorf("%q, %v; want %q", logs, err, want)
	}
	if got := <-dialed; got != "n1" {
		t.Errorf("dialed %q", got)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA())
	if _, err := (<-a.peers).Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("the node cannot know the API server: %v", err)
	}
	if _, err := s.CoreV1().Pods("shop").GetLogs("p", &corev1.PodLogOptions{Container: "starting"}).Stream(ctx); err == nil || !strings.Contains(err.Error(), "waiting to start") {
		t.Errorf("the node's word is lost: %v", err)
	}
	request := s.CoreV1().RESTClient().Post().Resource("pods").Namespace("shop").Name("p").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "c", Command: []string{"cat", "-"}, Stdin: true, Stdout: true}, scheme.ParameterCodec)
	for name, connect := range map[string]func() (clientexec.Executor, error){
		"SPDY":      func() (clientexec.Executor, error) { return clientexec.NewSPDYExecutor(s.admin, "POST", request.URL()) },
		"WebSocket": func() (clientexec.Executor, error) { return webSocket(s.admin, request) },
	} {
		e, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = e.StreamWithContext(ctx, clientexec.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out})
		if err != nil || out.String() != "cat -: hello" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
}

func webSocket(c *restclient.Config, r *restclient.Request) (clientexec.Executor, error) {
	return clientexec.NewWebSocketExecutor(c, "GET", r.URL().String())
}
