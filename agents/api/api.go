// Package api is the Kubernetes API of Reprise: upstream's whole API server, as
// it is, in this process, with its objects kept in the log instead of in etcd
// (see agents/api/storage). It is the gate through which people and agents give
// commands: a request passes authentication, authorization, admission and
// validation, and then becomes one event, or is refused and leaves no trace in
// the log.
//
// cmd starts a Server; agents/runner and agents/node use its Gate. It decides
// nothing by itself, keeps no state but keys and certificates, and never opens a
// connection to a node: those come from the dialer that it is given.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	restclient "k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/reprise-run/reprise/agents/api/documents"
	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/agents/api/pki"
	"github.com/reprise-run/reprise/agents/api/quick"
	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/upstream"
	"github.com/reprise-run/reprise/agents/api/watchers"
	"github.com/reprise-run/reprise/events"
)

// Options configure a Server.
type Options struct {
	// Dir holds keys and certificates; they are made at the first start.
	Dir string
	// Listener is where clients connect.
	Listener net.Listener
	// Advertise is the address at which pods reach this server, through the
	// Service "kubernetes". Without one that Service has no endpoints.
	Advertise net.IP
	// Names are host names and addresses under which clients know this server,
	// beside localhost, the host's name and the Service's.
	Names []string
	// ServiceCIDR is the range of the addresses of Services.
	ServiceCIDR string
	// History and Volatile are the two logs.
	History, Volatile storage.Source
	// ID tells this server from others of the same cluster: a DNS name, lower
	// case. It may be left out where there is one on a machine.
	ID string
	// Actor is who writes the events. Its Kind is always "api".
	Actor events.Actor
	// Dial connects to the agent of a node. Without it, logs, exec and the like
	// fail.
	Dial NodeDialer
	// Sealer keeps values unreadable in the history; without one none are.
	Sealer storage.Sealer
	// Log gets what the server has to say beside upstream's own.
	Log *slog.Logger
	// Kubeconfig is the file for the administrator's access, written at start.
	Kubeconfig string
	// Past is what to answer requests about the past from. Without its Reader there
	// is only the present.
	Past past.Options
}

// Server is a running API server.
type Server struct {
	// Address is the URL under which this machine reaches the server.
	Address string

	generic *genericapiserver.GenericAPIServer
	inside  http.Handler
	pki     *pki.Dir
	backend *storage.Backend
	lane    *lane
	past    *past.Past
	queue   *queue   // of commands; see Gate
	users   sync.Map // who gave any, of events.Actor to user.Info
	done    chan struct{}
	err     error
	// stopping are the caches. Upstream ends one after the other, and not all of them end.
	stopping storage.Stopping
}

// New starts a server and returns once it is ready. It ends with the context;
// see Done.
func New(ctx context.Context, o Options) (*Server, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := start(ctx, o)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("cannot start the API server: %w", err)
	}
	context.AfterFunc(ctx, cancel)
	if err := s.ready(ctx); err != nil {
		cancel()
		<-s.done
		return nil, errors.Join(err, s.err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	serviceIP, err := firstAddress(o.ServiceCIDR)
	if err != nil {
		return nil, err
	}
	dir, err := pki.Ensure(filepath.Join(o.Dir, "pki"), serverNames(o, serviceIP), time.Now())
	if err != nil {
		return nil, err
	}
	o.Actor.Kind = "api"
	// What is being served when the server stops is still stored.
	stored, end := context.WithCancel(context.WithoutCancel(ctx))
	backend, err := storage.New(stored, storage.Options{History: o.History, Volatile: o.Volatile, Keys: upstream.Keys(), Actor: o.Actor, Sealer: o.Sealer})
	if err == nil {
		err = sealAll(ctx, backend, o.Log)
	}
	if err != nil {
		end()
		return nil, err
	}
	address, unregister := backend.Register(o.Listener.Addr().String())
	stop := func() {
		unregister()
		end()
	}
	s := &Server{
		Address: "https://" + net.JoinHostPort(reachable(o.Listener.Addr()), strconv.Itoa(port(o.Listener.Addr()))),
		pki:     dir, backend: backend, queue: newQueue(turns, share), done: make(chan struct{}),
	}
	if err := s.writeKubeconfig(o.Kubeconfig); err != nil {
		stop()
		return nil, err
	}
	run, err := s.assemble(ctx, o, address)
	if err != nil {
		stop()
		return nil, err
	}
	go func() {
		defer close(s.done)
		defer stop()
		s.err = run(ctx)
		s.stopping.Await(patienceAtEnd)
		if s.past != nil {
			s.past.Close()
		}
	}()
	return s, nil
}

// sealAll seals what a former version, or one with another encryption
// configuration, left in the clear.
func sealAll(ctx context.Context, b *storage.Backend, log *slog.Logger) error {
	n, err := b.SealAll(ctx)
	if n > 0 && log != nil {
		log.Warn("objects lay unencrypted in the log; they are encrypted from now on, and what the log says of them up to now stays readable for ever: change what matters, as you would after a leak", "objects", n)
	}
	return err
}

// assemble builds upstream's chain of servers (aggregator, core, extensions) by
// upstream's own functions, and returns what runs it.
func (s *Server) assemble(ctx context.Context, o Options, address string) (func(context.Context) error, error) {
	completed, err := upstreamOptions(ctx, o, s.pki, address)
	if err != nil {
		return nil, err
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		return nil, err
	}
	if err := informersFrom(o.History.Projection, config.KubeAPIs.ControlPlane.VersionedInformers); err != nil {
		return nil, err
	}
	known := &config.KubeAPIs.ControlPlane.VersionedInformers
	*known = addresses{*known, o.History.Projection}
	dialNodes(config, o.Dial)
	if o.ID != "" {
		config.KubeAPIs.ControlPlane.Generic.APIServerID = "apiserver-" + o.ID
		config.ApiExtensions.GenericConfig.APIServerID = "apiserver-" + o.ID
		config.Aggregator.GenericConfig.APIServerID = "apiserver-" + o.ID
	}
	if o.Past.Reader != nil {
		s.past = past.New(o.Past)
		rewind(s.past, &config.Aggregator.GenericConfig.Config)
	}
	kube := config.KubeAPIs.ControlPlane.Generic
	kube.RESTOptionsGetter = watchers.Getter{RESTOptionsGetter: caches{quick.Getter{RESTOptionsGetter: kube.RESTOptionsGetter}, s.backend}}
	allowed, err := rightsBy(kube.Authorization.Authorizer, config.KubeAPIs.ControlPlane.VersionedInformers)
	if err != nil {
		return nil, err
	}
	custom := &config.ApiExtensions.ExtraConfig.CRDRESTOptionsGetter
	*custom = watchers.Getter{RESTOptionsGetter: *custom}
	for _, stored := range []*generic.RESTOptionsGetter{
		&kube.RESTOptionsGetter, custom, &config.ApiExtensions.GenericConfig.RESTOptionsGetter, &config.Aggregator.GenericConfig.RESTOptionsGetter,
	} {
		*stored = pages{*stored, s.backend, &s.stopping}
	}
	filtered(&config.Aggregator.GenericConfig.Config)
	documents.Prepare(kube)
	complete, err := config.Complete()
	if err != nil {
		return nil, err
	}
	aggregator, err := app.CreateServerChain(complete)
	if err != nil {
		return nil, err
	}
	if err := onDemand(aggregator.GenericAPIServer.NextDelegate(), kube); err != nil {
		return nil, err
	}
	prepared, err := aggregator.PrepareRun()
	if err != nil {
		return nil, err
	}
	// Who wants definitions from here on makes them.
	kube.OpenAPIV3Config.Definitions = nil
	s.generic = aggregator.GenericAPIServer
	if s.lane, err = newLane(complete.KubeAPIs.ControlPlane.Generic, s.backend, allowed); err != nil {
		return nil, err
	}
	s.inside = insideChain(s.generic, complete.Aggregator.GenericConfig)
	return prepared.Run, nil
}

// filtered has watches answered in batches, and who creates what nobody acts on warned,
// both within all filters of upstream's.
func filtered(c *genericapiserver.Config) {
	build := c.BuildHandlerChainFunc
	c.BuildHandlerChainFunc = func(h http.Handler, c *genericapiserver.Config) http.Handler {
		return build(warned(watchers.Batches(h)), c)
	}
}

// onDemand has the server of the built-in resources make its OpenAPI documents when
// they are asked for, and its routes keep what they need. The extensions' documents change
// with the custom resources; upstream does that.
func onDemand(of genericapiserver.DelegationTarget, c *genericapiserver.Config) error {
	s, ok := of.(*genericapiserver.GenericAPIServer)
	if !ok {
		return fmt.Errorf("upstream's aggregator stands before a %T, not before an API server", of)
	}
	if err := forgetExpressions(s.Handler.GoRestfulContainer); err != nil {
		return err
	}
	shareParameters(s.Handler.GoRestfulContainer)
	return documents.Install(s, c.OpenAPIConfig, c.OpenAPIV3Config)
}

// ready waits until the server says that it is.
func (s *Server) ready(ctx context.Context) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		status, body, err := s.do(ctx, admin, http.MethodGet, "/readyz", nil)
		if err != nil {
			return err
		}
		if status == http.StatusOK {
			return nil
		}
		select {
		case <-t.C:
		case <-s.done:
			return errors.New("the API server ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("the API server was not ready in time: %w\n%s", context.Cause(ctx), body)
		}
	}
}

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why the server has ended, once it has.
func (s *Server) Err() error { return s.err }

// Handler serves requests as they come from outside, with all of upstream's
// filters, but without a connection.
func (s *Server) Handler() http.Handler { return s.generic.Handler }

// Loopback is a client configuration for this process, with all rights.
func (s *Server) Loopback() *restclient.Config {
	return restclient.CopyConfig(s.generic.LoopbackClientConfig)
}

// CA is the certificate of the authority that signs the server's certificate,
// in PEM: what pods are given to know the server by.
func (s *Server) CA() []byte { return s.pki.CA() }

func serverNames(o Options, serviceIP string) []string {
	names := []string{
		"localhost", "127.0.0.1", "::1", reachable(o.Listener.Addr()), serviceIP,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	if o.Advertise != nil {
		names = append(names, o.Advertise.String())
	}
	return append(names, o.Names...)
}

// reachable is a host under which this machine reaches a listener.
func reachable(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok && !t.IP.IsUnspecified() {
		return t.IP.String()
	}
	return "127.0.0.1"
}

func port(a net.Addr) int {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.Port
	}
	return 0
}

// firstAddress is the address of the Service "kubernetes".
func firstAddress(cidr string) (string, error) {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		return "", fmt.Errorf("the range of Services is not one: %w", err)
	}
	ip := append(net.IP(nil), network.IP...)
	ip[len(ip)-1]++
	return ip.String(), nil
}
