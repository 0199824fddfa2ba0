package watchers

import (
	"context"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
)

// Getter is upstream's options of storage, whose watchers share what they hear.
type Getter struct{ generic.RESTOptionsGetter }

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g Getter) GetRESTOptions(r schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := g.RESTOptionsGetter.GetRESTOptions(r, example)
	if err != nil || o.Decorator == nil {
		return o, err
	}
	decorate := o.Decorator
	o.Decorator = func(config *storagebackend.ConfigForResource, prefix string, key func(runtime.Object) (string, error),
		blank, list func() runtime.Object, attributes storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
	) (storage.Interface, factory.DestroyFunc, error) {
		s, end, err := decorate(config, prefix, key, blank, list, attributes, triggers, indexers)
		if err != nil {
			return nil, nil, err
		}
		return Shared(s, blank), end, nil
	}
	return o, nil
}

// Shared returns a storage whose watchers share what they hear. All else is as it was.
// What blank returns is an object without content.
func Shared(s storage.Interface, blank func() runtime.Object) storage.Interface {
	return &shared{Interface: s, blank: blank, feeds: feeds{of: map[scope]*feed{}}}
}

// early is how long before the end of a watch its watcher is told how far it is.
const early = 2 * time.Second

type shared struct {
	storage.Interface
	blank  func() runtime.Object
	feeds  feeds
	lender lender
}

// Watch implements storage.Interface.
func (s *shared) Watch(ctx context.Context, key string, o storage.ListOptions) (watch.Interface, error) {
	w, err := s.Interface.Watch(ctx, key, o)
	if err != nil {
		return nil, err
	}
	q := newQueue(w, s.blank, &s.lender)
	q.done = ctx.Done()
	if live, can := begins(o); can {
		if q.live = live; live {
			q.at, _ = strconv.ParseUint(o.ResourceVersion, 10, 64)
		}
		// It joins after its own watch has begun: see queue.
		q.feed = s.feeds.join(ctx, s.Interface, key, o, q)
	}
	if end, is := ctx.Deadline(); is && o.Predicate.AllowWatchBookmarks {
		t := time.AfterFunc(time.Until(end.Add(-early)), q.remind)
		context.AfterFunc(ctx, func() { t.Stop() })
	}
	context.AfterFunc(ctx, q.Stop)
	go q.run()
	return q, nil
}

// begins says whether it can be told where the first events of a watch end, which are
// not what happens while it lasts, and whether it has none.
func begins(o storage.ListOptions) (live, can bool) {
	switch {
	case o.Predicate.ShardSelector != nil, isNothing(o.Predicate.Label), isNothing(o.Predicate.Field):
		return false, false
	case o.SendInitialEvents != nil && *o.SendInitialEvents:
		return false, o.Predicate.AllowWatchBookmarks // One of these says so.
	default:
		return true, o.SendInitialEvents != nil || o.ResourceVersion != "" && o.ResourceVersion != "0"
	}
}

// isNothing says whether s selects nothing. As a string that is no other than one that
// selects everything.
func isNothing(s interface {
	Empty() bool
	String() string
}) bool {
	return s != nil && !s.Empty() && s.String() == ""
}
