package api

import (
	"context"
	"fmt"
	"net"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/controlplane/reconcilers"

	"github.com/reprise-run/reprise/agents/api/pki"
	"github.com/reprise-run/reprise/agents/api/upstream"
)

// upstreamOptions are what one would give kube-apiserver as flags.
func upstreamOptions(ctx context.Context, o Options, keys *pki.Dir, storageAddress string) (options.CompletedOptions, error) {
	s, err := upstream.NewOptions()
	if err != nil {
		return options.CompletedOptions{}, err
	}
	informers, err := cache.NewInformerName("kube-apiserver-" + storageAddress)
	if err != nil {
		return options.CompletedOptions{}, err
	}
	s.InformerName = informers

	s.Etcd.StorageConfig.Transport.ServerList = []string{storageAddress}
	s.Etcd.StorageConfig.CompactionInterval = 0 // the log forgets nothing
	s.Etcd.DefaultStorageMediaType = "application/json"

	s.SecureServing.Listener = o.Listener
	s.SecureServing.BindPort = port(o.Listener.Addr())
	s.SecureServing.ServerCert.CertKey.CertFile, s.SecureServing.ServerCert.CertKey.KeyFile = keys.Serving()
	s.ServiceClusterIPRanges = o.ServiceCIDR
	s.AllowPrivileged = true
	advertise(s, o)

	s.Authentication.ClientCert.ClientCA = keys.ClientCA()
	s.Authentication.RequestHeader.ClientCAFile = keys.FrontProxyCA()
	s.Authentication.RequestHeader.AllowedNames = []string{"front-proxy-client"}
	s.Authentication.RequestHeader.UsernameHeaders = []string{"X-Remote-User"}
	s.Authentication.RequestHeader.UIDHeaders = []string{"X-Remote-Uid"}
	s.Authentication.RequestHeader.GroupHeaders = []string{"X-Remote-Group"}
	s.Authentication.RequestHeader.ExtraHeaderPrefixes = []string{"X-Remote-Extra-"}
	s.ProxyClientCertFile, s.ProxyClientKeyFile = keys.FrontProxy()
	s.KubeletConfig.TLSClientConfig.CertFile, s.KubeletConfig.TLSClientConfig.KeyFile = keys.Kubelet()
	s.Authentication.ServiceAccounts.Issuers = []string{"https://kubernetes.default.svc.cluster.local"}
	s.Authentication.ServiceAccounts.KeyFiles = []string{keys.ServiceAccountKey()}
	s.ServiceAccountSigningKeyFile = keys.ServiceAccountKey()

	s.Authorization.Modes = []string{"Node", "RBAC"}
	s.Admission.GenericAdmission.EnablePlugins = []string{"NodeRestriction"}
	s.Admission.GenericAdmission.Decorators = decorators(o.History.Projection)

	completed, err := s.Complete(ctx)
	if err != nil {
		return options.CompletedOptions{}, err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return options.CompletedOptions{}, fmt.Errorf("upstream refuses the options: %w", utilerrors.NewAggregate(errs))
	}
	return completed, nil
}

// advertise sets the endpoint of the Service "kubernetes". An address that
// other machines cannot reach makes none.
func advertise(s *options.ServerRunOptions, o Options) {
	s.GenericServerRunOptions.AdvertiseAddress = o.Advertise
	s.EndpointReconcilerType = string(reconcilers.LeaseEndpointReconcilerType)
	if o.Advertise == nil || o.Advertise.IsLoopback() || o.Advertise.IsUnspecified() {
		s.EndpointReconcilerType = string(reconcilers.NoneEndpointReconcilerType)
		s.GenericServerRunOptions.AdvertiseAddress = net.IPv4(127, 0, 0, 1)
	}
}
