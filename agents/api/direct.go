package api

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	upstreamstorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/events"
)

// directly has a registry of upstream's store what it creates in the log with
// nothing between: no cache, and no reading back of what was just written.
type directly struct {
	generic.RESTOptionsGetter
	backend *storage.Backend
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (d directly) GetRESTOptions(r schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := d.RESTOptionsGetter.GetRESTOptions(r, example)
	o.CountMetricPollPeriod = 0
	o.Decorator = func(config *storagebackend.ConfigForResource, _ string, _ func(runtime.Object) (string, error), _, _ func() runtime.Object,
		_ upstreamstorage.AttrFunc, _ upstreamstorage.IndexerFuncs, _ *cache.Indexers) (upstreamstorage.Interface, factory.DestroyFunc, error) {
		return &direct{resource: r, codec: config.Codec, backend: d.backend}, func() {}, nil
	}
	return o, err
}

// direct is upstream's storage of one resource as far as a registry needs it to
// create objects.
type direct struct {
	upstreamstorage.Interface // nil: nothing else is ever called
	resource                  schema.GroupResource
	codec                     runtime.Codec
	backend                   *storage.Backend
}

// ReadinessCheck implements upstreamstorage.Interface.
func (*direct) ReadinessCheck() error { return nil }

// Get implements upstreamstorage.Interface. A registry looks at what it could not
// create only to say more about it.
func (*direct) Get(_ context.Context, key string, _ upstreamstorage.GetOptions, _ runtime.Object) error {
	return upstreamstorage.NewKeyNotFoundError(key, 0)
}

// Create implements upstreamstorage.Interface. It leaves the memory of obj to out.
func (d *direct) Create(ctx context.Context, key string, obj, out runtime.Object, _ uint64) error {
	if v, err := versions.ObjectResourceVersion(obj); err == nil && v != 0 {
		return upstreamstorage.ErrResourceVersionSetOnCreate
	}
	if err := versions.PrepareObjectForStorage(obj); err != nil {
		return err
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	value, err := runtime.Encode(d.codec, obj)
	if err != nil {
		return err
	}
	ref := events.Ref{Group: d.resource.Group, Resource: d.resource.Resource, Namespace: m.GetNamespace(), Name: m.GetName()}
	revision, made, err := d.backend.Create(ctx, ref, value)
	switch {
	case err != nil:
		return err
	case !made:
		return upstreamstorage.NewKeyExistsError(key, 0)
	}
	reflect.ValueOf(out).Elem().Set(reflect.ValueOf(obj).Elem())
	return versions.UpdateObject(out, revision)
}
