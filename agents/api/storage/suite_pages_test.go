package storage_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/apis/example"
	upstream "k8s.io/apiserver/pkg/storage"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
)

// noting notes in the context of a list that upstream's storage makes it.
type noting struct{ upstream.Interface }

type notedKey struct{}

func (n noting) GetList(ctx context.Context, key string, opts upstream.ListOptions, list runtime.Object) error {
	if noted, ok := ctx.Value(notedKey{}).(*bool); ok {
		*noted = true
	}
	return n.Interface.GetList(ctx, key, opts, list)
}

// compared has upstream's storage make each list too that Objects makes: they are equal,
// and the suite finds the requests of storage that it looks for.
type compared struct {
	*storage.Objects
	below upstream.Interface
	t     *testing.T
}

func (c compared) GetList(ctx context.Context, key string, opts upstream.ListOptions, list runtime.Object) error {
	made := false
	err := c.Objects.GetList(context.WithValue(ctx, notedKey{}, &made), key, opts, list)
	if err != nil || made {
		return err
	}
	want := newPodList()
	if err := c.below.GetList(ctx, key, opts, want); err != nil {
		c.t.Errorf("there is a list of %s, but upstream's storage says: %v", key, err)
	}
	if !equality.Semantic.DeepEqual(want, list) {
		c.t.Errorf("a list of %s is %+v, and upstream's storage makes %+v", key, list, want)
	}
	return nil
}

// Who has a first page gets the others as of the same moment, however much happens in
// between.
func TestPagesOutliveWhatIsRecent(t *testing.T) {
	for name, setup := range map[string]func(*testing.T, *storagetest.Log) *subject{
		"of the projection": objectsOf, "under a cache": cachedOf,
		"of upstream's storage": func(t *testing.T, history *storagetest.Log) *subject {
			return paged(t, storedBelow(t, "/registry", history))
		},
	} {
		t.Run(name, func(t *testing.T) { pagesOutliveWhatIsRecent(t, setup(t, storagetest.NewShortLog(t, 8))) })
	}
}

// cachedOf is upstream's storage under its cache, as custom resources have it.
func cachedOf(t *testing.T, history *storagetest.Log) *subject {
	keepsNoVersions(t)
	return paged(t, above(t, storedBelow(t, "/registry", history)))
}

func pagesOutliveWhatIsRecent(t *testing.T, s *subject) {
	ctx := t.Context()
	create := func(name string) {
		pod := &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)}}
		if err := s.Create(ctx, "/pods/shop/"+name, pod, newPod(), 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		create(fmt.Sprintf("a-%d", i))
	}
	page := func(from string) *example.PodList {
		t.Helper()
		list := &example.PodList{}
		pages := upstream.Everything
		pages.Limit, pages.Continue = 2, from
		if err := s.GetList(ctx, "/pods/", upstream.ListOptions{Recursive: true, Predicate: pages}, list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	first := page("")
	for i := range 20 {
		create(fmt.Sprintf("a-%d-later", i))
	}
	if err := s.Delete(ctx, "/pods/shop/a-4", newPod(), nil, upstream.ValidateAllObjectFunc, nil, upstream.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	all := first.Items
	for last := first; last.Continue != ""; {
		last = page(last.Continue)
		if last.ResourceVersion != first.ResourceVersion {
			t.Errorf("a page is as of %s, and the first was as of %s", last.ResourceVersion, first.ResourceVersion)
		}
		all = append(all, last.Items...)
	}
	var names []string
	for _, pod := range all {
		names = append(names, pod.Name)
	}
	if want := []string{"a-0", "a-1", "a-2", "a-3", "a-4"}; !slices.Equal(names, want) {
		t.Errorf("the pages have %v", names)
	}
	if _, forgotten := s.forgotten.Load("a-4"); !forgotten && s.decodes {
		t.Error("what has gone is remembered")
	}
	if _, forgotten := s.forgotten.Load("a-3"); forgotten {
		t.Error("what is there is forgotten")
	}
	old := upstream.ListOptions{
		Recursive: true, Predicate: upstream.Everything,
		ResourceVersion: "2", ResourceVersionMatch: metav1.ResourceVersionMatchExact,
	}
	if err := s.GetList(ctx, "/pods/", old, newPodList()); !apierrors.IsResourceExpired(err) {
		t.Errorf("of a moment at which nobody began a list: %v", err)
	}
}
