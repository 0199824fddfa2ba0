package storage

import (
	"context"
	"errors"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// Decoder makes objects as upstream holds them in memory.
type Decoder interface {
	// Share returns the object of an entry whose document is what upstream stored. It
	// may share with others all but what the object is itself, so that nobody may
	// change more of it.
	Share(e *projections.Entry) (runtime.Object, error)
	// Decode decodes what upstream has stored under a key.
	Decode(ctx context.Context, key string, value []byte) (runtime.Object, error)
	// Forget hears that an entry was the last version of its object.
	Forget(e *projections.Entry)
}

// Objects is upstream's storage of a resource as a cache in this process has it: who
// watches all objects is given what they are in memory, without the form that etcd
// would have them in between. All else is as in upstream's.
type Objects struct {
	storage.Interface
	keys    *Keys
	stream  *stream
	scope   events.Ref
	key     string
	decoder Decoder
	blank   func() runtime.Object

	mu      sync.Mutex
	watches map[*member]struct{}
}

// Objects returns the objects of the resource that s keeps under a prefix. blank makes
// an empty one.
func (b *Backend) Objects(s storage.Interface, prefix string, d Decoder, blank func() runtime.Object) (*Objects, error) {
	key := strings.Trim(prefix, "/")
	scope, ok := b.keys.Scope(b.keys.root + key + "/")
	if !ok {
		return nil, noSuchKey(prefix)
	}
	return &Objects{
		Interface: s, keys: b.keys, stream: b.stream(scope), scope: scope, key: key,
		decoder: d, blank: blank, watches: map[*member]struct{}{},
	}, nil
}

// Watch implements storage.Interface.
func (o *Objects) Watch(ctx context.Context, key string, opts storage.ListOptions) (apiwatch.Interface, error) {
	if strings.Trim(key, "/") != o.key || !opts.Recursive || !opts.ProgressNotify || !opts.Predicate.Empty() {
		return o.Interface.Watch(ctx, key, opts)
	}
	from, err := o.Versioner().ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	asked := opts.SendInitialEvents != nil && *opts.SendInitialEvents
	initial := asked || opts.SendInitialEvents == nil && from == 0
	view := o.stream.Projection.View()
	if initial && from > view.Sequence() {
		return o.Interface.Watch(ctx, key, opts) // It knows how to refuse that.
	}
	ctx, cancel := context.WithCancel(ctx)
	to := &objectReceiver{Objects: o, cancel: cancel, out: make(chan apiwatch.Event, 100)}
	w := &watch{
		stream: o.stream, scope: o.scope, next: from + 1, to: to, cancel: cancel,
		member: &member{scope: groupResource(o.scope), signal: make(chan struct{}, 1), notify: true},
	}
	if initial || from == 0 {
		w.next = view.Sequence() + 1
	}
	if initial {
		w.first = func(ctx context.Context) error { return to.begin(ctx, view, asked) }
	}
	go o.run(ctx, w)
	return to, nil
}

// run has a watch be asked for progress while it runs.
func (o *Objects) run(ctx context.Context, w *watch) {
	o.mu.Lock()
	o.watches[w.member] = struct{}{}
	o.mu.Unlock()
	w.run(ctx)
	w.cancel()
	o.mu.Lock()
	delete(o.watches, w.member)
	o.mu.Unlock()
}

// RequestWatchProgress implements storage.Interface.
func (o *Objects) RequestWatchProgress(ctx context.Context) error {
	o.mu.Lock()
	for m := range o.watches {
		o.stream.hub.progress(m)
	}
	o.mu.Unlock()
	return o.Interface.RequestWatchProgress(ctx)
}

// EnableResourceSizeEstimation implements storage.Interface: what is in the
// projection need not be estimated.
func (*Objects) EnableResourceSizeEstimation(storage.KeysFunc) error { return nil }

// Stats implements storage.Interface.
func (o *Objects) Stats(context.Context) (s storage.Stats, _ error) {
	var size int64
	for e := range o.stream.Projection.View().List(o.scope.Group, o.scope.Resource, "") {
		value, err := fromLog(e.Raw)
		if err != nil {
			return s, err
		}
		s.ObjectCount++
		size += int64(len(value))
	}
	if s.ObjectCount > 0 {
		s.EstimatedAverageObjectSizeBytes = size / s.ObjectCount
	}
	return s, nil
}

// object makes the object of an entry, as of a revision.
func (o *Objects) object(ctx context.Context, e *projections.Entry, revision uint64) (runtime.Object, error) {
	doc, err := o.stream.sealer.Reveal(ctx, e.Ref, e.UID, e.Raw)
	if err != nil {
		return nil, err
	}
	value, err := fromLog(doc)
	if err != nil {
		return nil, err
	}
	var object runtime.Object
	if same(value, e.Raw) {
		object, err = o.decoder.Share(e)
	} else {
		object, err = o.decoder.Decode(ctx, o.keys.Key(e.Ref), value)
	}
	if err != nil {
		return nil, err
	}
	return object, o.Versioner().UpdateObject(object, revision)
}

// objectReceiver is one watch of Objects.
type objectReceiver struct {
	*Objects
	cancel context.CancelFunc
	out    chan apiwatch.Event
}

// Stop implements apiwatch.Interface.
func (r *objectReceiver) Stop() { r.cancel() }

// ResultChan implements apiwatch.Interface.
func (r *objectReceiver) ResultChan() <-chan apiwatch.Event { return r.out }

// begin tells of all objects as they are in a view, and if asked that these are all.
func (r *objectReceiver) begin(ctx context.Context, view projections.Reader, asked bool) error {
	for _, e := range (past{Reader: view}).ordered(r.scope) {
		object, err := r.object(ctx, e, e.Sequence)
		if err == nil {
			err = r.send(ctx, apiwatch.Added, object)
		}
		if err != nil {
			return err
		}
	}
	if !asked {
		return nil
	}
	return r.bookmark(ctx, view.Sequence(), storage.AnnotateInitialEventsEndBookmark)
}

func (r *objectReceiver) change(ctx context.Context, c projections.Change) error {
	kind, e := apiwatch.Modified, c.After
	switch {
	case c.After == nil:
		kind, e = apiwatch.Deleted, c.Before
		defer r.decoder.Forget(e)
	case c.Before == nil:
		kind = apiwatch.Added
	}
	object, err := r.object(ctx, e, c.Event.Sequence)
	if err != nil {
		return err
	}
	return r.send(ctx, kind, object)
}

func (*objectReceiver) flush(context.Context) error { return nil }

func (r *objectReceiver) progress(ctx context.Context, sequence uint64) error {
	return r.bookmark(ctx, sequence, nil)
}

func (r *objectReceiver) bookmark(ctx context.Context, sequence uint64, annotate func(runtime.Object) error) error {
	object := r.blank()
	err := r.Versioner().UpdateObject(object, sequence)
	if err == nil && annotate != nil {
		err = annotate(object)
	}
	if err != nil {
		return err
	}
	return r.send(ctx, apiwatch.Bookmark, object)
}

func (r *objectReceiver) fail(ctx context.Context, cause error, _ uint64) {
	if errors.Is(cause, live.ErrTooOld) {
		cause = apierrors.NewResourceExpired("The resourceVersion for the provided watch is too old.")
	}
	status, ok := cause.(apierrors.APIStatus)
	if !ok {
		status = apierrors.NewInternalError(cause)
	}
	is := status.Status()
	_ = r.send(ctx, apiwatch.Error, &is) // It fails only when nobody listens.
}

func (r *objectReceiver) end() { close(r.out) }

func (r *objectReceiver) send(ctx context.Context, kind apiwatch.EventType, object runtime.Object) error {
	select {
	case r.out <- apiwatch.Event{Type: kind, Object: object}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
