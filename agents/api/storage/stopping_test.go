package storage_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	upstream "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"

	"github.com/reprise-run/reprise/agents/api/storage"
)

// told is a storage of no pods as of revision 0, by which the cache's dispatcher knows that
// it has not begun: it takes no event until it is stopped.
type told struct {
	upstream.Interface
	events chan apiwatch.Event
}

func (told) Versioner() upstream.Versioner                             { return upstream.APIObjectVersioner{} }
func (told) EnableResourceSizeEstimation(upstream.KeysFunc) error      { return nil }
func (told) RequestWatchProgress(context.Context) error                { return nil }
func (told) GetCurrentResourceVersion(context.Context) (uint64, error) { return 0, nil }
func (t told) Stop()                                                   {}
func (t told) ResultChan() <-chan apiwatch.Event                       { return t.events }
func (t told) Watch(context.Context, string, upstream.ListOptions) (apiwatch.Interface, error) {
	return t, nil
}

// Upstream's caches do not always stop. If they do some day, nobody need bound that.
func TestACacheThatDoesNotStopIsLeft(t *testing.T) {
	keepsNoVersions(t)
	below := told{events: make(chan apiwatch.Event)}
	c, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: below, Versioner: below.Versioner(), GroupResource: schema.GroupResource{Resource: "pods"},
		EventsHistoryWindow: cacher.DefaultEventFreshDuration, ResourcePrefix: "/pods/",
		KeyFunc:      func(o runtime.Object) (string, error) { return upstream.NamespaceKeyFunc("/pods/", o) },
		GetAttrsFunc: attributes, NewFunc: newPod, NewListFunc: newPodList, Codec: codecs.LegacyCodec(examplev1.SchemeGroupVersion),
	})
	if err != nil {
		t.Fatal(err)
	}
	end := &example.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "0"}}
	if err := upstream.AnnotateInitialEventsEndBookmark(end); err != nil {
		t.Fatal(err)
	}
	below.events <- apiwatch.Event{Type: apiwatch.Bookmark, Object: end}
	const queue = 100 // and each event comes with a note of its revision
	for i := range queue/2 + 1 {
		pod := &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pod", ResourceVersion: strconv.Itoa(i + 1)}}
		kind := apiwatch.Modified
		if i == 0 {
			kind = apiwatch.Added
		}
		below.events <- apiwatch.Event{Type: kind, Object: pod}
	}
	var stopping storage.Stopping
	stopping.Begin(c.Stop)
	if stopping.Await(50 * time.Millisecond) {
		t.Error("the cache has stopped, though nobody takes what its reader has to give")
	}
}

// However many caches do not stop, all together are waited for once, and those that stop are
// not held up by them.
func TestCachesStopSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stopping storage.Stopping
		never := make(chan struct{})
		stopped := 0
		for range 10 {
			stopping.Begin(func() { <-never })
		}
		stopping.Begin(func() { stopped++ })
		begun := time.Now()
		if stopping.Await(2*time.Second) || time.Since(begun) != 2*time.Second {
			t.Errorf("it waited for %v", time.Since(begun))
		}
		if stopped != 1 {
			t.Error("what stops was held up by what does not")
		}
		close(never)
		synctest.Wait()
	})
	var stopping storage.Stopping
	stopping.Begin(func() {})
	if !stopping.Await(time.Minute) {
		t.Error("what stops is left too")
	}
}
