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

// podsFrom has upstream's informer of pods follow a projection. It serves the Node
// authorizer and the check of tokens that are bound to pods, and without this it would
// be a client of this server like any other: each version of each pod would be encoded,
// encrypted, sent and decoded again to arrive in the process that it came from. Nor is
// it told of versions in which nothing differs by which these judge. To be called before
// the informers start.
//
// What an informer lists and watches by is given to it when it is made, deep inside of
// upstream's assembly. That it can be replaced rests on the name of one field.
func podsFrom(p live.Projection, f informers.SharedInformerFactory) error {
	informer := f.Core().V1().Pods().Informer()
	for v := reflect.ValueOf(informer); v.IsValid() && !v.IsNil(); {
		field := v.Elem().FieldByName("listerWatcher")
		if field.IsValid() && field.CanAddr() {
			reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem().Set(reflect.ValueOf(follow(p)))
			return nil
		}
		if v = v.Elem().FieldByName("SharedIndexInformer"); v.IsValid() {
			v = v.Elem()
		}
	}
	return fmt.Errorf("upstream's %T has no field listerWatcher any more", informer)
}

// follow lists and watches the pods of a projection.
func follow(p live.Projection) cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) { return listPods(p), nil },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return watchPods(ctx, p, o.ResourceVersion)
		},
	}, listsFirst{})
}

// listsFirst says that a watch does not begin with what there is.
type listsFirst struct{}

// IsWatchListSemanticsUnSupported is asked for by client-go.
func (listsFirst) IsWatchListSemanticsUnSupported() bool { return true }

func listPods(p live.Projection) *corev1.PodList {
	view := p.View()
	list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: version(view.Sequence())}}
	for e := range view.List("", "pods", "") {
		if pod := podOf(e, e.Sequence); pod != nil {
			list.Items = append(list.Items, *pod)
		}
	}
	return list
}

// podOf is a pod as clients get it, without the account of who set which field, which
// informers here drop anyway. Its memory, below its fields, is shared. It is nil if
// what the log has is no pod: nobody has a right by it then.
func podOf(e *projections.Entry, sequence uint64) *corev1.Pod {
	decoded, err := e.Typed(reflect.TypeFor[corev1.Pod]())
	if err != nil {
		utilruntime.HandleError(err)
		return nil
	}
	pod := *decoded.(*corev1.Pod)
	pod.ManagedFields, pod.ResourceVersion = nil, version(sequence)
	return &pod
}

func version(sequence uint64) string { return strconv.FormatUint(sequence, 10) }

// podWatch implements watch.Interface.
type podWatch struct {
	events chan watch.Event
	cancel context.CancelFunc
}

// ResultChan implements watch.Interface.
func (w *podWatch) ResultChan() <-chan watch.Event { return w.events }

// Stop implements watch.Interface.
func (w *podWatch) Stop() { w.cancel() }

func watchPods(ctx context.Context, p live.Projection, from string) (watch.Interface, error) {
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
	w := &podWatch{events: make(chan watch.Event, 64), cancel: cancel}
	go w.run(ctx, changes)
	return w, nil
}

// run ends with the context, or when it has fallen too far behind: the informer lists
// again then.
func (w *podWatch) run(ctx context.Context, changes live.Changes) {
	defer close(w.events)
	for {
		batch, err := changes.Next(ctx)
		told := podEvents(batch)
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
	[]byte(`"path":""`), []byte(`"/spec`), []byte(`"/metadata`), []byte(`"/status"`),
	[]byte(`"/status/resourceClaimStatuses`), []byte(`"/status/extendedResourceClaimStatus`),
}

// podEvents are the changes of pods that concern who follows, the last version of each:
// who follows needs none in between.
func podEvents(changes []projections.Change) []watch.Event {
	last := map[events.Ref]int{}
	for i, c := range changes {
		if ref := c.Entry().Ref; ref.GroupResource() == "pods" && concerns(c) {
			last[ref] = i
		}
	}
	var told []watch.Event
	tell := func(t watch.EventType, pod *corev1.Pod) {
		if pod != nil {
			told = append(told, watch.Event{Type: t, Object: pod})
		}
	}
	for i, c := range changes {
		ref := c.Entry().Ref
		switch at, is := last[ref]; {
		case !is:
		case c.After == nil:
			tell(watch.Deleted, podOf(c.Before, c.Event.Sequence))
		case at == i:
			tell(watch.Modified, podOf(c.After, c.After.Sequence))
		}
	}
	return told
}
