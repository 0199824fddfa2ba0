// Package upstream is what the API servers of one process have in common: the one
// of the present (agents/api) and those of the past (agents/api/past). It serves nothing
// and keeps nothing.
package upstream

import (
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericfeatures "k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	restclient "k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/kubeapiserver"

	"github.com/reprise-run/reprise/agents/api/storage"
)

// etcdPrefix is the root of upstream's storage keys.
const etcdPrefix = "/registry"

// globals guards what upstream keeps once a process.
var globals struct {
	sync.Once
	err error
}

// NewOptions returns what one would give kube-apiserver as flags, so far as it is the same
// for all servers. It settles feature gates and versions, which upstream wants before options
// are completed, and which all servers of a process share.
func NewOptions() (*options.ServerRunOptions, error) {
	s := options.NewServerRunOptions()
	// ComponentStatuses, deprecated since 1.19, are made by asking two ports of this machine,
	// where upstream's scheduler and controller manager would be. Of ours they could only say
	// that they are not healthy, which is not so.
	s.APIEnablement.RuntimeConfig["/v1/componentstatuses"] = "false"
	globals.Do(func() {
		globals.err = utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{
			// Needs a connection from each server to each other.
			string(genericfeatures.UnknownVersionInteroperabilityProxy): false,
			// Pages of lists are made from the projection.
			string(genericfeatures.ListFromCacheSnapshot): false,
		})
		if globals.err == nil {
			globals.err = s.GenericServerRunOptions.ComponentGlobalsRegistry.Set()
		}
		restclient.SetDefaultWarningHandler(restclient.NoWarnings{})
	})
	return s, globals.err
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
