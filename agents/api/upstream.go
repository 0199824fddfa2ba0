package api

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericfeatures "k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane/reconcilers"
	"k8s.io/kubernetes/pkg/kubeapiserver"

	"github.com/reprise-run/reprise/agents/api/pki"
	"github.com/reprise-run/reprise/agents/api/storage"
)

// upstreamOptions are what one would give kube-apiserver as flags.
func upstreamOptions(ctx context.Context, o Options, keys *pki.Dir, storageAddress string) (options.CompletedOptions, error) {
	s := options.NewServerRunOptions()
	if err := setGlobals(s); err != nil {
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

// globals guards what upstream keeps once a process.
var globals struct {
	sync.Once
	err error
}

// setGlobals settles feature gates and versions, which upstream wants before
// options are completed, and which all servers of a process share.
func setGlobals(s *options.ServerRunOptions) error {
	globals.Do(func() {
		globals.err = utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{
			// Needs a connection from each server to each other.
			string(genericfeatures.UnknownVersionInteroperabilityProxy): false,
		})
		if globals.err == nil {
			globals.err = s.GenericServerRunOptions.ComponentGlobalsRegistry.Set()
		}
		restclient.SetDefaultWarningHandler(restclient.NoWarnings{})
	})
	return globals.err
}

// Keys translates between upstream's storage keys and the log's references.
func Keys() *storage.Keys { return storage.NewKeys(etcdPrefix, resourcePrefixes()) }

// resourcePrefixes says where upstream keeps each built-in resource: by its
// plural, save for a few. The kinds are all that upstream's scheme knows, most
// of which are resources, and those that are not do no harm here.
func resourcePrefixes() map[schema.GroupResource]string {
	prefixes := map[schema.GroupResource]string{}
	for _, version := range legacyscheme.Scheme.PrioritizedVersionsAllGroups() {
		if version.Group == "extensions" {
			continue // the former home of what is stored as apps and networking.k8s.io
		}
		for kind := range legacyscheme.Scheme.KnownTypes(version) {
			if strings.HasSuffix(kind, "List") || strings.HasSuffix(kind, "Options") {
				continue
			}
			plural, _ := meta.UnsafeGuessKindToResource(version.WithKind(kind))
			r := plural.GroupResource()
			prefixes[r] = r.Resource
			if special, ok := kubeapiserver.SpecialDefaultResourcePrefixes[r]; ok {
				prefixes[r] = special
			}
		}
	}
	return prefixes
}
