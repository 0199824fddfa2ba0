package past

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"google.golang.org/grpc/test/bufconn"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	etcd3metrics "k8s.io/apiserver/pkg/storage/etcd3/metrics"
	"k8s.io/client-go/informers"
	clientset "k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/upstream"
)

// idleHooks are what upstream's servers do in the background that a server of the
// past must not: they write what a new cluster needs, or watch what only admission
// and authorization look at, of which there is none here.
var idleHooks = []string{
	"bootstrap-controller",
	"generic-apiserver-start-informers",
	"priority-and-fairness-config-producer",
	"rbac/bootstrap-roles",
	"scheduling/bootstrap-system-priority-classes",
	"start-cluster-authentication-info-controller",
	"start-kube-apiserver-admission-initializer",
	"start-kube-apiserver-identity-lease-controller",
	"start-kube-apiserver-identity-lease-garbage-collector",
	"start-kubernetes-service-cidr-controller",
	"start-legacy-token-tracking-controller",
	"start-service-ip-repair-controllers",
	"start-system-namespaces-controller",
	"storage-object-count-tracker-hook",
	"max-in-flight-filter",
	// This one ends the process if a server is stopped before it is ready. What it
	// waits for, start-apiextensions-controllers does too.
	"crd-informer-synced",
}

// chain is upstream's chain of servers (aggregator, core, extensions) over the
// history. It knows the custom resources of one epoch, and answers for every
// moment of it.
type chain struct {
	handler http.Handler
	// ready returns once it can be used, and fails if it does not become so.
	ready func(context.Context) error
	stop  func()
}

// startChain makes a chain and has it start. What it returns is not ready yet.
func startChain(o Options, sequence uint64) (_ *chain, err error) {
	life, end := context.WithCancel(context.Background())
	b := newBackend(life, o, sequence)
	address, unregister := storage.Register(fmt.Sprintf("past-%p", b), b.client)
	undo := func() {
		end()
		unregister()
		b.pages.close()
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	config, err := chainConfig(address)
	if err != nil {
		return nil, err
	}
	pipe := bufconn.Listen(1 << 16)
	loopback(config, pipe)
	kube := config.KubeAPIs.ControlPlane.Generic
	kube.RESTOptionsGetter = getter{kube.RESTOptionsGetter, b.early}
	complete, err := config.Complete()
	if err != nil {
		return nil, err
	}
	aggregator, err := app.CreateServerChain(complete)
	if err != nil {
		return nil, err
	}
	if _, err := aggregator.PrepareRun(); err != nil {
		return nil, err
	}
	server := aggregator.GenericAPIServer
	lists, err := newPodLists(server.Handler.Director, kube.RESTOptionsGetter)
	if err != nil {
		return nil, err
	}
	inside := &http.Server{Handler: insideChain(server, complete.Aggregator.GenericConfig)}
	go func() { _ = inside.Serve(pipe) }()
	server.RunPostStartHooks(life)
	return &chain{
		handler: lists,
		ready:   func(ctx context.Context) error { return ready(ctx, pipe, o.Patience) },
		stop: func() {
			undo()
			_ = inside.Close()
			lists.destroy()
			server.Destroy()
		},
	}, nil
}

// chainConfig configures upstream's servers to do nothing but read.
func chainConfig(address string) (*app.Config, error) {
	s, err := upstream.NewOptions()
	if err != nil {
		return nil, err
	}
	s.Etcd.StorageConfig.Transport.ServerList = []string{address}
	s.Etcd.StorageConfig.CompactionInterval = 0
	s.Etcd.StorageConfig.CountMetricPollPeriod = 0
	s.Etcd.DefaultStorageMediaType = "application/json"
	s.Etcd.EnableWatchCache = false
	s.Etcd.SkipHealthEndpoints = true
	s.SecureServing.Listener = nowhere{}
	s.SecureServing.BindPort = 443
	s.Features.EnablePriorityAndFairness = false
	s.EndpointReconcilerType = "none"
	s.GenericServerRunOptions.AdvertiseAddress = net.IPv4(127, 0, 0, 1)
	s.Authentication.ServiceAccounts.Issuers = []string{""}
	s.Authorization.Modes = []string{"AlwaysAllow"}
	s.Admission.PluginNames = []string{"AlwaysAdmit"}
	completed, err := s.Complete(context.Background())
	if err != nil {
		return nil, err
	}
	config, err := app.NewConfig(completed)
	// The newest server's storage is what /metrics would ask how large it is, long
	// after that server has gone.
	etcd3metrics.SetStorageMonitorGetter(func() ([]etcd3metrics.Monitor, error) { return nil, nil })
	return config, err
}

// nowhere is the address of a server that no one connects to.
type nowhere struct{ net.Listener }

// Addr implements net.Listener.
func (nowhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// loopback leads what the servers ask of themselves through the pipe.
func loopback(c *app.Config, pipe *bufconn.Listener) {
	generic := c.KubeAPIs.ControlPlane.Generic
	*generic.LoopbackClientConfig = restclient.Config{
		Host: "http://past", QPS: -1,
		ContentConfig: restclient.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"},
		Dial:          func(ctx context.Context, _, _ string) (net.Conn, error) { return pipe.DialContext(ctx) },
	}
	generic.DisabledPostStartHooks.Insert(idleHooks...)
	// Nobody asks these for anything.
	none := informers.NewSharedInformerFactory(clientset.NewForConfigOrDie(generic.LoopbackClientConfig), 0)
	c.Aggregator.GenericConfig.SharedInformerFactory = none
	c.ApiExtensions.GenericConfig.SharedInformerFactory = none
	c.Aggregator.ExtraConfig.DisableRemoteAvailableConditionController = true
}

// insideChain serves the servers' requests to themselves.
func insideChain(s *genericapiserver.GenericAPIServer, c genericapiserver.CompletedConfig) http.Handler {
	self := &user.DefaultInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup}}
	h := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Handler.Director.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), self)))
	}))
	h = filters.WithRequestInfo(h, c.RequestInfoResolver)
	h = filters.WithRequestReceivedTimestamp(h)
	return filters.WithAuditInit(h)
}
