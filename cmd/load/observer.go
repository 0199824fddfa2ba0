package load

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// runLabel marks the pods of the load, and appLabel says which Deployment they are of.
const (
	runLabel = "load"
	appLabel = "app"
)

// life is when a client saw a pod come and go.
type life struct {
	deployment                    string
	node                          string
	created, bound, running, gone time.Time
}

// tally counts pods.
type tally struct{ created, bound, running, gone int }

// observer is the one client that says when something happened: it watches the
// pods of the load and writes down when it hears what. It is a cache.ReflectorStore.
type observer struct {
	mu      sync.Mutex
	lives   map[types.UID]*life
	before  map[types.UID]*life // those that are not counted, but for their end
	tally   tally
	changed chan struct{} // closed and replaced with every change
	relists int
}

func newObserver() *observer {
	return &observer{lives: map[types.UID]*life{}, before: map[types.UID]*life{}, changed: make(chan struct{})}
}

// observe starts to watch, and returns when the first list is there.
func observe(ctx context.Context, config *rest.Config) (*observer, error) {
	client, err := sightingClient(config)
	if err != nil {
		return nil, err
	}
	o := newObserver()
	pods := func(options metav1.ListOptions) *rest.Request {
		options.LabelSelector = runLabel
		return client.Get().Resource("pods").VersionedParams(&options, scheme.ParameterCodec)
	}
	r := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list := &sightings{}
			return list, pods(options).Do(ctx).Into(list)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch = true
			return pods(options).Watch(ctx)
		},
	}, &sighting{}, o, cache.ReflectorOptions{Name: "load"})
	go r.RunWithContext(ctx)
	return o, o.await(ctx, func() bool { return o.relists > 0 })
}

// await returns when is true, which is asked anew whenever a pod has changed and
// may read what the observer holds.
func (o *observer) await(ctx context.Context, is func() bool) error {
	for {
		o.mu.Lock()
		done, changed := is(), o.changed
		o.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// forget begins to count anew: of the pods that live only the end will count, and
// they are returned.
func (o *observer) forget() map[types.UID]*life {
	o.mu.Lock()
	defer o.mu.Unlock()
	living := map[types.UID]*life{}
	for _, lives := range []map[types.UID]*life{o.before, o.lives} {
		for uid, l := range lives {
			if l.gone.IsZero() {
				living[uid] = l
			}
		}
	}
	o.before, o.lives, o.tally = living, map[types.UID]*life{}, tally{}
	return living
}

// tell wakes those who wait; the lock is held.
func (o *observer) tell() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *observer) see(pod *sighting, now time.Time) {
	if o.before[pod.UID] != nil {
		return
	}
	l := o.lives[pod.UID]
	if l == nil {
		l = &life{deployment: pod.Labels[appLabel], created: now}
		o.lives[pod.UID] = l
		o.tally.created++
	}
	if l.bound.IsZero() && pod.node != "" {
		l.bound, l.node = now, pod.node
		o.tally.bound++
	}
	if l.running.IsZero() && pod.ready {
		l.running = now
		o.tally.running++
	}
}

// fullest is how many pods the node has that has most of them.
func (o *observer) fullest() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	on, most := map[string]int{}, 0
	for _, lives := range []map[types.UID]*life{o.before, o.lives} {
		for _, l := range lives {
			if l.gone.IsZero() && l.node != "" {
				on[l.node]++
				most = max(most, on[l.node])
			}
		}
	}
	return most
}

// Add implements cache.ReflectorStore.
func (o *observer) Add(object any) error { return o.Update(object) }

// Update implements cache.ReflectorStore.
func (o *observer) Update(object any) error {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.see(object.(*sighting), now)
	o.tell()
	return nil
}

// Delete implements cache.ReflectorStore.
func (o *observer) Delete(object any) error {
	now := time.Now()
	pod := object.(*sighting)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end(pod.UID, now)
	o.tell()
	return nil
}

// end writes down that a pod is gone.
func (o *observer) end(uid types.UID, now time.Time) {
	l := o.lives[uid]
	if l == nil {
		l = o.before[uid]
	}
	if l != nil && l.gone.IsZero() {
		l.gone = now
		o.tally.gone++
	}
}

// Replace implements cache.ReflectorStore. After the first list it is called only
// if the watch has fallen behind what the server keeps.
func (o *observer) Replace(list []any, _ string) error {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	there := map[types.UID]bool{}
	for _, object := range list {
		pod := object.(*sighting)
		there[pod.UID] = true
		o.see(pod, now)
	}
	for _, lives := range []map[types.UID]*life{o.before, o.lives} {
		for uid := range lives {
			if !there[uid] {
				o.end(uid, now)
			}
		}
	}
	o.relists++
	o.tell()
	return nil
}

// Resync implements cache.ReflectorStore.
func (o *observer) Resync() error { return nil }
