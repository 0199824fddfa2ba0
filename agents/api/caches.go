package api

import (
	"io"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	upstreamstorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/kubeapiserver"

	"github.com/reprise-run/reprise/agents/api/quick"
	"github.com/reprise-run/reprise/agents/api/storage"
)

// caches has upstream's caches hold what the projection has decoded already, and not
// decode each version of each object for themselves.
type caches struct {
	generic.RESTOptionsGetter
	backend *storage.Backend
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (c caches) GetRESTOptions(r schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := c.RESTOptionsGetter.GetRESTOptions(r, example)
	if err != nil || example == nil || uncached(r) {
		return o, err
	}
	shared, err := quick.NewShared(o.StorageConfig, example)
	if err != nil {
		return o, nil // Upstream decodes it.
	}
	o.Decorator = func(config *storagebackend.ConfigForResource, prefix string, key func(runtime.Object) (string, error),
		blank, list func() runtime.Object, attributes upstreamstorage.AttrFunc, triggers upstreamstorage.IndexerFuncs, indexers *cache.Indexers,
	) (upstreamstorage.Interface, factory.DestroyFunc, error) {
		below, end, err := generic.NewRawStorage(config, blank, list, prefix)
		if err != nil {
			return nil, nil, err
		}
		objects, err := c.backend.Objects(below, prefix, shared, blank)
		if err != nil {
			end()
			return nil, nil, err
		}
		_, isPod := example.(*core.Pod)
		if isPod {
			attributes = leanAttributes
		}
		above, err := cacher.NewCacherFromConfig(cacher.Config{
			Storage: objects, Versioner: upstreamstorage.APIObjectVersioner{}, GroupResource: config.GroupResource,
			EventsHistoryWindow: config.EventsHistoryWindow, ResourcePrefix: prefix, Codec: unchecked{config.Codec},
			KeyFunc: plainKey(prefix, key, blank), NewFunc: blank, NewListFunc: list, GetAttrsFunc: attributes, IndexerFuncs: triggers, Indexers: indexers,
		})
		if err != nil {
			end()
			return nil, nil, err
		}
		whole := cacher.NewCacheDelegator(above, objects)
		stop := sync.OnceFunc(func() { whole.Stop(); above.Stop(); end() })
		if isPod {
			return leanPods{whole}, stop, nil
		}
		return whole, stop, nil
	}
	return o, nil
}

// unchecked is the codec of a cache, which encodes nothing but an empty object at the start,
// to see whether that can be. That it can, of each resource, is for tests to see: what it
// takes to encode the types of all resources lives for ever, and nobody may ask for most.
type unchecked struct{ runtime.Codec }

// Encode implements runtime.Encoder.
func (unchecked) Encode(runtime.Object, io.Writer) error { return nil }

// plainKey returns what key does, for objects that are stored: if the keys of a resource
// are its prefix, the namespace and the name, they are put together of these. A cache asks
// for the key of each version twice, and key makes a context to find it by.
func plainKey(prefix string, key func(runtime.Object) (string, error), blank func() runtime.Object) func(runtime.Object) (string, error) {
	sample := blank()
	m, err := meta.Accessor(sample)
	if err != nil {
		return key
	}
	m.SetNamespace("namespace")
	m.SetName("name")
	if at, err := key(sample); err != nil || at != prefix+"/namespace/name" {
		return key
	}
	return func(o runtime.Object) (string, error) {
		m, err := meta.Accessor(o)
		if err != nil {
			return "", err
		}
		return prefix + "/" + m.GetNamespace() + "/" + m.GetName(), nil
	}
}

// uncached says whether upstream wants no cache of a resource.
func uncached(r schema.GroupResource) bool {
	size, special := kubeapiserver.DefaultWatchCacheSizes()[r]
	return special && size == 0
}

// pages is upstream's options of storage, in which all pages of a list are as of the moment
// of the first, and which all end side by side: see Server.stopping.
type pages struct {
	generic.RESTOptionsGetter
	backend  *storage.Backend
	stopping *storage.Stopping
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (p pages) GetRESTOptions(r schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := p.RESTOptionsGetter.GetRESTOptions(r, example)
	if err != nil || o.Decorator == nil {
		return o, err
	}
	decorate := o.Decorator
	o.Decorator = func(config *storagebackend.ConfigForResource, prefix string, key func(runtime.Object) (string, error),
		blank, list func() runtime.Object, attributes upstreamstorage.AttrFunc, triggers upstreamstorage.IndexerFuncs, indexers *cache.Indexers,
	) (upstreamstorage.Interface, factory.DestroyFunc, error) {
		s, end, err := decorate(config, prefix, key, blank, list, attributes, triggers, indexers)
		if err != nil {
			return nil, nil, err
		}
		paged, err := p.backend.Paged(s, prefix)
		if err != nil {
			end()
			return nil, nil, err
		}
		return paged, sync.OnceFunc(func() { p.stopping.Begin(end) }), nil
	}
	return o, nil
}

// patienceAtEnd is how long a server that stops waits for all of its caches.
const patienceAtEnd = 2 * time.Second
