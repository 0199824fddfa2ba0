package watchers_test

import (
	"context"
	"io"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/printers"
	internalprinters "k8s.io/kubernetes/pkg/printers/internalversion"
	printerstorage "k8s.io/kubernetes/pkg/printers/storage"
	"k8s.io/kubernetes/pkg/registry/core/pod"

	"github.com/reprise-run/reprise/agents/api/watchers"
	"github.com/reprise-run/reprise/projections/kindtest"
)

// below is a storage of pods of which there are none at first, as a cache needs it.
type below struct {
	storage.Interface
	events chan watch.Event
}

func (b *below) Versioner() storage.Versioner                              { return storage.APIObjectVersioner{} }
func (b *below) GetCurrentResourceVersion(context.Context) (uint64, error) { return 1, nil }
func (b *below) RequestWatchProgress(context.Context) error                { return nil }
func (b *below) EnableResourceSizeEstimation(storage.KeysFunc) error       { return nil }
func (b *below) CompactRevision() int64                                    { return 0 }
func (b *below) Stop()                                                     {}
func (b *below) ResultChan() <-chan watch.Event                            { return b.events }

func (b *below) GetList(_ context.Context, _ string, _ storage.ListOptions, list runtime.Object) error {
	list.(*core.PodList).ResourceVersion = "1"
	return nil
}

func (b *below) Watch(_ context.Context, _ string, o storage.ListOptions) (watch.Interface, error) {
	if o.SendInitialEvents != nil && *o.SendInitialEvents {
		end := &core.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "1"}}
		if err := storage.AnnotateInitialEventsEndBookmark(end); err != nil {
			return nil, err
		}
		b.events <- watch.Event{Type: watch.Bookmark, Object: end}
	}
	return b, nil
}

// Watchers of one pod in different ways are given one object, of which an encoder gets
// the pod as the cache has it, with a kind of its own to write into.
func TestPodsAreLent(t *testing.T) {
	b := &below{events: make(chan watch.Event, 10)}
	newPod, newList := func() runtime.Object { return &core.Pod{} }, func() runtime.Object { return &core.PodList{} }
	c, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: b, Versioner: b.Versioner(), EventsHistoryWindow: 2 * time.Minute, GroupResource: schema.GroupResource{Resource: "pods"}, ResourcePrefix: "/pods/",
		KeyFunc: func(o runtime.Object) (string, error) { return "/pods/shop/" + o.(*core.Pod).Name, nil },
		NewFunc: newPod, NewListFunc: newList, GetAttrsFunc: pod.GetAttrs, Codec: legacyscheme.Codecs.LegacyCodec(schema.GroupVersion{Version: "v1"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := watchers.Shared(cacher.NewCacheDelegator(c, b), newPod)
	var all []watch.Interface
	for _, label := range []labels.Selector{labels.Everything(), labels.SelectorFromSet(labels.Set{"app": "web"})} {
		o := storage.ListOptions{ResourceVersion: "1", Recursive: true, Predicate: storage.SelectionPredicate{Label: label, Field: fields.Everything(), GetAttrs: pod.GetAttrs}}
		w, err := s.Watch(t.Context(), "/pods/", o)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		all = append(all, w)
	}
	was := &core.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a", ResourceVersion: "2", Labels: map[string]string{"app": "web"}},
		Spec:       core.PodSpec{Containers: []core.Container{{Name: "c"}}},
	}
	gone := was.DeepCopy()
	gone.ResourceVersion = "3"
	for _, tell := range []watch.Event{{Type: watch.Added, Object: was}, {Type: watch.Deleted, Object: gone}} {
		b.events <- tell
		first, second := <-all[0].ResultChan(), <-all[1].ResultChan()
		if first.Type != tell.Type || first.Object != second.Object {
			t.Errorf("one is told %s of %p, the other of %p", first.Type, first.Object, second.Object)
		}
		encoded := func(o runtime.Object, _ io.Writer) error {
			got := o.(*core.Pod)
			if got == was || got.ResourceVersion != tell.Object.(*core.Pod).ResourceVersion || !reflect.DeepEqual(got.Spec, was.Spec) {
				t.Errorf("%s: encoded is\n%v", tell.Type, got)
			}
			if tell.Type == watch.Added && &got.Spec.Containers[0] != &was.Spec.Containers[0] {
				t.Error("the pod was copied")
			}
			return nil
		}
		if err := first.Object.(runtime.CacheableObject).CacheEncode("a", encoded, io.Discard); err != nil {
			t.Error(err)
		}
		if own := first.Object.(runtime.CacheableObject).GetObject().(*core.Pod); &own.Spec.Containers[0] == &was.Spec.Containers[0] {
			t.Error("who asks for the object might change that of all")
		}
	}
}

// Whatever a watcher asks to have a pod encoded as, nothing is written into what its
// fields share with others.
func TestEncodingChangesNothing(t *testing.T) {
	fill := kindtest.Filler(5)
	tables := printerstorage.TableConvertor{TableGenerator: printers.NewTableGenerator().With(internalprinters.AddHandlers)}
	v1 := schema.GroupVersion{Version: "v1"}
	var encoders []runtime.Encoder
	for _, info := range legacyscheme.Codecs.SupportedMediaTypes() {
		encoders = append(encoders, legacyscheme.Codecs.EncoderForVersion(info.Serializer, v1))
		if info.StreamSerializer != nil {
			encoders = append(encoders, legacyscheme.Codecs.EncoderForVersion(info.StreamSerializer.Serializer, v1))
		}
	}
	lent := 0
	for range 1000 {
		var shared core.Pod
		fill.Fill(&shared)
		if watchers.HasQuantities(&shared) {
			continue
		}
		lent++
		before := shared.DeepCopy()
		for _, e := range encoders {
			own := shared
			if err := e.Encode(&own, io.Discard); err != nil {
				t.Fatal(err)
			}
		}
		own := shared
		if _, err := tables.ConvertToTable(t.Context(), &own, nil); err != nil {
			t.Fatal(err)
		}
		meta.AsPartialObjectMetadata(&own).SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata"))
		if !reflect.DeepEqual(&shared, before) {
			t.Fatalf("it was\n%v\nand is\n%v", before, &shared)
		}
	}
	if lent < 500 {
		t.Errorf("only %d of 1,000 pods were lent", lent)
	}
}
