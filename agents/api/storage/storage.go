// Package storage lets upstream's API server keep its objects in the log. It is
// an etcd client in form, for that is what upstream's storage layer talks to;
// behind it a read is a read of a projection, a write is one event proposed with
// the object's expected sequence, and a watch follows what the projection folds.
// So all semantics of the Kubernetes API above (resource versions, continue
// tokens, retries, bookmarks, errors) are upstream's own code.
//
// Only agents/api uses it. It never writes without an expectation, never answers
// before its own projection has folded what it wrote, keeps no state of its own
// beyond the last sequence of each resource, and knows nothing of HTTP.
package storage

import (
	"bytes"
	"cmp"
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Options say where a Backend keeps what.
type Options struct {
	// History holds all objects but the volatile ones (events.Volatile), whose
	// revisions are their own log's.
	History, Volatile Source
	Keys              *Keys
	// Actor is who writes the events.
	Actor events.Actor
	// Patience is how long a write may wait for the committer. Zero stands for
	// ten seconds.
	Patience time.Duration
	// Progress is how often a watch of a resource that does not change hears
	// how far the log has come. Zero stands for ten seconds.
	Progress time.Duration
	// Sealer keeps values unreadable in the history; without one none are.
	Sealer Sealer
}

// Backend is what all etcd clients of one API server share.
type Backend struct {
	keys              *Keys
	history, volatile *stream
}

// New starts a backend. It ends with the context. To an empty log it appends a
// first event, since Kubernetes knows no resource version zero.
func New(ctx context.Context, o Options) (*Backend, error) {
	o.Patience = cmp.Or(o.Patience, 10*time.Second)
	o.Progress = cmp.Or(o.Progress, 10*time.Second)
	if o.Sealer == nil {
		o.Sealer = open{}
	}
	history, err := newStream(ctx, o.History, o, cluster)
	if err != nil {
		return nil, err
	}
	volatile, err := newStream(ctx, o.Volatile, o, clock)
	if err != nil {
		return nil, err
	}
	return &Backend{keys: o.Keys, history: history, volatile: volatile}, nil
}

// Client returns a new etcd client on the backend. Upstream makes one for each
// resource. Closing it ends its watches.
func (b *Backend) Client() *kubernetes.Client {
	return NewClient(client{backend: b}, &watcher{backend: b, watches: map[*watch]struct{}{}})
}

// Get returns an object as it stands, or nil.
func (b *Backend) Get(r events.Ref) *projections.Entry {
	return b.stream(r).Projection.View().Get(r)
}

// Create stores a new object as upstream's storage would, given its encoding, and
// returns its revision. It says false if there is an object of that name.
func (b *Backend) Create(ctx context.Context, r events.Ref, value []byte) (revision uint64, made bool, err error) {
	o, err := b.stream(r).put(ctx, r, value, 0)
	return o.revision, o.done, err
}

// CreateDocument is Create for the encoding of an object with a UID that is canonical.
func (b *Backend) CreateDocument(ctx context.Context, r events.Ref, uid string, doc []byte) (revision uint64, made bool, err error) {
	o, err := b.stream(r).write(ctx, r, uid, doc, 0)
	return o.revision, o.done, err
}

// Patch changes an object that was last changed at the expected revision by operations
// as events.Diff would give them, and returns its revision. It says false if the object
// has changed since, or is gone. Nothing of it may be sealed.
func (b *Backend) Patch(ctx context.Context, r events.Ref, ops []events.Op, expected uint64) (revision uint64, done bool, err error) {
	o, err := b.stream(r).change(ctx, r, expected, func(_ context.Context, current *projections.Entry) (events.Change, bool, error) {
		return events.CommandPatch(r, current.UID, current.Raw, ops)
	})
	return o.revision, o.done, err
}

// Remove does the same for an object that is to be no more.
func (b *Backend) Remove(ctx context.Context, r events.Ref, expected uint64) (revision uint64, done bool, err error) {
	o, err := b.stream(r).remove(ctx, r, expected)
	return o.revision, o.done, err
}

// Plain says whether an object lies in the log as upstream encodes it: neither
// sealed nor opaque.
func (b *Backend) Plain(e *projections.Entry) bool {
	return !b.stream(e.Ref).sealer.Covers(e.Ref) && !bytes.HasPrefix(e.Raw, opaqueStart)
}

// stream is the one that holds the objects of a resource.
func (b *Backend) stream(r events.Ref) *stream {
	if events.Volatile(r) {
		return b.volatile
	}
	return b.history
}

// watcher implements clientv3.Watcher.
type watcher struct {
	backend *Backend

	mu      sync.Mutex
	watches map[*watch]struct{}
	closed  bool
}

// Watch implements clientv3.Watcher.
func (w *watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	op := clientv3.OpGet(key, opts...)
	out := make(chan clientv3.WatchResponse, 1)
	scope, ok := w.backend.keys.Ref(key)
	if op.RangeBytes() != nil {
		scope, ok = w.backend.keys.Scope(key)
	}
	if !ok {
		out <- clientv3.WatchResponse{Canceled: true, CancelReason: "no such key: " + key}
		close(out)
		return out
	}
	s := w.backend.stream(scope)
	ctx, cancel := context.WithCancel(ctx)
	t := &watch{
		stream: s, scope: scope, next: uint64(max(op.Rev(), 0)), cancel: cancel, to: &etcdReceiver{stream: s, keys: w.backend.keys, out: out},
		member: &member{scope: groupResource(scope), signal: make(chan struct{}, 1), notify: op.IsProgressNotify()},
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		cancel()
	}
	w.watches[t] = struct{}{}
	go func() {
		t.run(ctx)
		cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watches, t)
	}()
	return out
}

// RequestProgress implements clientv3.Watcher.
func (w *watcher) RequestProgress(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for t := range w.watches {
		t.stream.hub.progress(t.member)
	}
	return nil
}

// Close implements clientv3.Watcher.
func (w *watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for t := range w.watches {
		t.cancel()
	}
	return nil
}
