package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// informersFrom has upstream's informers of pods and of nodes follow a projection. They
// serve the Node authorizer, the check of tokens that are bound to pods and admission, and
// without this they would be clients of this server like any other: each version of each
// object would be encoded, encrypted, sent and decoded again to arrive in the process that
// it came from, and be held there a second time. To be called before the informers start.
//
// What an informer lists and watches by is given to it when it is made, deep inside of
// upstream's assembly. That it can be replaced rests on the name of one field.
func informersFrom(p live.Projection, f informers.SharedInformerFactory) error {
	if err := informFrom(p, pods, f.Core().V1().Pods().Informer()); err != nil {
		return err
	}
	return informFrom(p, nodes, f.Core().V1().Nodes().Informer())
}

func informFrom(p live.Projection, of informed, informer cache.SharedIndexInformer) error {
	for v := reflect.ValueOf(informer); v.IsValid() && !v.IsNil(); {
		field := v.Elem().FieldByName("listerWatcher")
		if field.IsValid() && field.CanAddr() {
			reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem().Set(reflect.ValueOf(of.follow(p)))
			return nil
		}
		if v = v.Elem().FieldByName("SharedIndexInformer"); v.IsValid() {
			v = v.Elem()
		}
	}
	return fmt.Errorf("upstream's %T has no field listerWatcher any more", informer)
}

// informed is a core resource of which informers hear from a projection.
type informed struct {
	resource string
	// concerns says whether who follows is to hear of a change.
	concerns func(projections.Change) bool
	// object is what a version is to clients, with its memory, below its fields, shared,
	// and without the account of who set which field, which informers here drop anyway.
	object func(*projections.Entry) (metav1.Object, error)
}

var (
	pods  = informed{"pods", concerns, decoded[corev1.Pod]}
	nodes = informed{"nodes", func(projections.Change) bool { return true }, decoded[corev1.Node]}
)

func decoded[T any, P interface {
	*T
	metav1.Object
}](e *projections.Entry) (metav1.Object, error) {
	object, err := typed[T](e)
	if err != nil {
		return nil, err
	}
	P(object).SetManagedFields(nil)
	return P(object), nil
}

// typed is a version as it was decoded, with its memory, below its fields, shared.
func typed[T any](e *projections.Entry) (*T, error) {
	known, err := e.Typed(reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	object := *known.(*T)
	return &object, nil
}

// follow lists and watches the objects of a projection.
func (of informed) follow(p live.Projection) cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) { return of.list(p), nil },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return of.watch(ctx, p, o.ResourceVersion)
		},
	}, listsFirst{})
}

// listsFirst says that a watch does not begin with what there is.
type listsFirst struct{}

// IsWatchListSemanticsUnSupported is asked for by client-go.
func (listsFirst) IsWatchListSemanticsUnSupported() bool { return true }

func (of informed) list(p live.Projection) *corev1.List {
	view := p.View()
	list := &corev1.List{ListMeta: metav1.ListMeta{ResourceVersion: version(view.Sequence())}}
	for e := range view.List("", of.resource, "") {
		if o := of.as(e, e.Sequence); o != nil {
			list.Items = append(list.Items, runtime.RawExtension{Object: o})
		}
	}
	return list
}

// as is an object as clients get it. It is nil if what the log has is none: nobody has a
// right by it then.
func (of informed) as(e *projections.Entry, sequence uint64) runtime.Object {
	object, err := of.object(e)
	if err != nil {
		utilruntime.HandleError(err)
		return nil
	}
	object.SetResourceVersion(version(sequence))
	return object.(runtime.Object)
}

func version(sequence uint64) string { return strconv.FormatUint(sequence, 10) }

// informing implements watch.Interface.
type informing struct {
	of     informed
	events chan watch.Event
	cancel context.CancelFunc
}

// ResultChan implements watch.Interface.
func (w *informing) ResultChan() <-chan watch.Event { return w.events }

// Stop implements watch.Interface.
func (w *informing) Stop() { w.cancel() }

func (of informed) watch(ctx context.Context, p live.Projection, from string) (watch.Interface, error) {
	after, err := strconv.ParseUint(from, 10, 64)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%q is not a resource version: %v", from, err))
	}
	changes, err := p.Changes(ctx, after)
	if errors.Is(err, live.ErrTooOld) {
		return nil, apierrors.NewResourceExpired(err.Error())
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &informing{of: of, events: make(chan watch.Event, 64), cancel: cancel}
	go w.run(ctx, changes)
	return w, nil
}

// run ends with the context, or when it has fallen too far behind: the informer lists
// again then.
func (w *informing) run(ctx context.Context, changes live.Changes) {
	defer close(w.events)
	for {
		batch, err := changes.Next(ctx)
		told := w.of.events(batch)
		if errors.Is(err, live.ErrTooOld) {
			told = append(told, watch.Event{Type: watch.Error, Object: &apierrors.NewResourceExpired(err.Error()).ErrStatus})
		}
		for _, e := range told {
			select {
			case w.events <- e:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// concerns says whether a change of a pod is one for those who judge by pods: what a
// node tells of it, but for the claims that it was given, gives nobody a right.
func concerns(c projections.Change) bool {
	if c.Before == nil || c.After == nil {
		return true
	}
	if !c.Mentions(judged) {
		return false
	}
	for _, part := range [...][]string{{"spec"}, {"metadata"}, {"status", "resourceClaimStatuses"}, {"status", "extendedResourceClaimStatus"}} {
		if !bytes.Equal(c.Before.Lookup(part...), c.After.Lookup(part...)) {
			return true
		}
	}
	return false
}

// judged are the paths of a pod by which others judge.
var judged = [][]byte{
	[]byte(`"/spec`), []byte(`"/metadata`), []byte(`"/status"`),
	[]byte(`"/status/resourceClaimStatuses`), []byte(`"/status/extendedResourceClaimStatus`),
}

// events are the changes of objects that concern who follows, the last version of each:
// who follows needs none in between.
func (of informed) events(changes []projections.Change) []watch.Event {
	last := map[events.Ref]int{}
	for i, c := range changes {
		if ref := c.Entry().Ref; ref.GroupResource() == of.resource && of.concerns(c) {
			last[ref] = i
		}
	}
	var told []watch.Event
	tell := func(t watch.EventType, object runtime.Object) {
		if object != nil {
			told = append(told, watch.Event{Type: t, Object: object})
		}
	}
	for i, c := range changes {
		ref := c.Entry().Ref
		switch at, is := last[ref]; {
		case !is:
		case c.After == nil:
			tell(watch.Deleted, of.as(c.Before, c.Event.Sequence))
		case at == i:
			tell(watch.Modified, of.as(c.After, c.After.Sequence))
		}
	}
	return told
}
