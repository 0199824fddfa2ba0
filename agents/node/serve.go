package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/agents/node/status"
	"github.com/reprise-run/reprise/agents/node/streams"
	"github.com/reprise-run/reprise/projections"
)

// serve answers the API server's requests for logs and streams. The API server
// speaks TLS whatever the connection; who is at its other end is settled by the
// way in which it came, so the certificate is the agent's own.
func (a *Agent) serve(ctx context.Context) {
	cert, err := selfSigned(a.o.Name, a.o.Clock.Now())
	if err != nil {
		a.log.Error("cannot serve logs and streams", "error", err)
		return
	}
	server := &http.Server{
		Handler:           streams.Handler(pods{a}, a.o.Containers),
		ReadHeaderTimeout: 30 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12},
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		// Upgrades need HTTP/1.1.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(tls.NewListener(a.o.Listener, server.TLSConfig)); err != nil && ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		a.log.Error("logs and streams are no longer served", "error", err)
	}
}

const certificateLife = 10 * 365 * 24 * time.Hour

func selfSigned(name string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "system:node:" + name}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// pods finds containers for the streams.
type pods struct{ a *Agent }

func (p pods) pod(namespace, name string) (*v1.Pod, error) {
	e := p.a.o.Projection.View().Get(podRef(namespace, name))
	if e != nil {
		if pod := projections.As[v1.Pod](e); pod.Spec.NodeName == p.a.o.Name {
			return pod, nil
		}
	}
	return nil, &streams.Error{Code: http.StatusNotFound, Message: fmt.Sprintf("pod %q is not on node %s", namespace+"/"+name, p.a.o.Name)}
}

// attempts asks the runtime for the attempts at a container, the newest first.
func (p pods) find(ctx context.Context, namespace, name, container string) (*v1.Pod, []found, error) {
	pod, err := p.pod(namespace, name)
	if err != nil {
		return nil, nil, err
	}
	if spec(pod, container) == nil {
		return nil, nil, &streams.Error{Code: http.StatusNotFound, Message: fmt.Sprintf("pod %q has no container %q", namespace+"/"+name, container)}
	}
	all, err := p.a.attempts(ctx, pod.UID, container)
	if err != nil {
		return nil, nil, fmt.Errorf("the container runtime does not answer: %w", err)
	}
	return pod, all, nil
}

// Container finds the newest attempt at a container that has started, or the one
// before.
func (p pods) Container(ctx context.Context, namespace, name, container string, previous bool) (streams.Container, error) {
	pod, all, err := p.find(ctx, namespace, name, container)
	if err != nil {
		return streams.Container{}, err
	}
	if previous {
		if len(all) < 2 {
			return streams.Container{}, &streams.Error{Code: http.StatusBadRequest,
				Message: fmt.Sprintf("previous terminated container %q in pod %q not found", container, name)}
		}
		all = all[1:]
	}
	if len(all) == 0 || !all[0].started {
		return streams.Container{}, waits(pod, container)
	}
	log := filepath.Join(crispec.LogDirectory(p.a.node.Logs, namespace, name, pod.UID), crispec.LogPath(container, all[0].attempt))
	return streams.Container{ID: all[0].id, Log: log}, nil
}

// waits says why a container has not started.
func waits(pod *v1.Pod, container string) error {
	reason := "ContainerCreating"
	for _, list := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		if st, ok := podutil.GetContainerStatus(list, container); ok && st.State.Waiting != nil {
			reason = st.State.Waiting.Reason
		}
	}
	return &streams.Error{Code: http.StatusBadRequest,
		Message: fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, pod.Name, reason)}
}

// Running finds a container that runs.
func (p pods) Running(ctx context.Context, namespace, name, container string) (string, error) {
	pod, all, err := p.find(ctx, namespace, name, container)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", waits(pod, container)
	}
	if !all[0].running {
		return "", &streams.Error{Code: http.StatusBadRequest, Message: fmt.Sprintf("container %q in pod %q does not run (%s)",
			container, name, status.ContainerIDPrefix+all[0].id)}
	}
	return all[0].id, nil
}

// Sandbox finds the pod's sandbox.
func (p pods) Sandbox(ctx context.Context, namespace, name string) (string, error) {
	pod, err := p.pod(namespace, name)
	if err != nil {
		return "", err
	}
	id, err := p.a.sandbox(ctx, pod.UID)
	if err != nil {
		return "", fmt.Errorf("the container runtime does not answer: %w", err)
	}
	if id == "" {
		return "", &streams.Error{Code: http.StatusBadRequest, Message: fmt.Sprintf("pod %q has no sandbox yet", namespace+"/"+name)}
	}
	return id, nil
}

// List returns the node's pods.
func (p pods) List() []v1.Pod {
	var out []v1.Pod
	for e := range p.a.o.Projection.View().OnNode(p.a.o.Name) {
		out = append(out, *projections.As[v1.Pod](e))
	}
	return out
}
