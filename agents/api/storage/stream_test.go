package storage_test

import (
	"context"
	"fmt"
	"path"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
)

type rig struct {
	*kubernetes.Client
	history, volatile *storagetest.Log
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{history: storagetest.NewLog(t, false), volatile: storagetest.NewLog(t, true)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	b, err := storage.New(ctx, storage.Options{
		History: r.history.Source(), Volatile: r.volatile.Source(),
		Keys: storage.NewKeys("/registry", nil), Actor: events.Actor{Kind: "api", Version: "v1"}, Patience: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Client = b.Client()
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (r *rig) put(t testing.TB, ctx context.Context, key, value string, expected int64) kubernetes.PutResponse {
	t.Helper()
	resp, err := r.Kubernetes.OptimisticPut(ctx, key, []byte(value), expected, kubernetes.PutOptions{GetOnFailure: true})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func configMap(name, data string) string {
	return fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":%q,"uid":"u-%s"},"data":{"k":%q}}`+"\n", name, name, data)
}

const key = "/registry/configmaps/shop/a"

func TestWritesAreAttributed(t *testing.T) {
	r := newRig(t)
	deed := &storage.Deed{Cause: 1}
	ctx := request.WithUser(t.Context(), &user.DefaultInfo{Name: "ann"})
	ctx = audit.WithAuditContext(ctx)
	audit.WithAuditID(ctx, types.UID("request-7"))
	resp := r.put(t, storage.WithDeed(ctx, deed), key, configMap("a", "1"), 0)
	if !resp.Succeeded || uint64(resp.Revision) != r.history.Sequence() || deed.Written() != uint64(resp.Revision) {
		t.Fatalf("%+v, the deed wrote %d, the log ends at %d", resp, deed.Written(), r.history.Sequence())
	}
	e := r.history.After(t, deed.Written()-1)[0]
	got := fmt.Sprintln(e.Type, e.Object, e.UID, e.Actor, e.User, e.Audit, e.Cause)
	if want := "configmap.created configmaps/shop/a u-a api ann request-7 1\n"; got != want {
		t.Errorf("appended %swant %s", got, want)
	}
}

func TestWritesExpect(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	first := r.put(t, ctx, key, configMap("a", "1"), 0)
	if again := r.put(t, ctx, key, configMap("a", "2"), 0); again.Succeeded || again.KV.ModRevision != first.Revision {
		t.Errorf("made twice: %+v", again)
	}
	second := r.put(t, ctx, key, configMap("a", "2"), first.Revision)
	if late := r.put(t, ctx, key, configMap("a", "3"), first.Revision); late.Succeeded || late.KV.ModRevision != second.Revision {
		t.Errorf("an old version was replaced: %+v", late)
	}
	last := r.history.Sequence()
	same := r.put(t, ctx, key, configMap("a", "2")+"  ", second.Revision)
	if !same.Succeeded || same.Revision != second.Revision || r.history.Sequence() != last {
		t.Errorf("an equal object was appended: %+v", same)
	}
	if gone, err := r.Kubernetes.OptimisticDelete(ctx, key, second.Revision, kubernetes.DeleteOptions{}); err != nil || !gone.Succeeded {
		t.Errorf("%+v, %v", gone, err)
	}
	if late := r.put(t, ctx, key, configMap("a", "3"), second.Revision); late.Succeeded || late.KV != nil {
		t.Errorf("what is gone was replaced: %+v", late)
	}
}

func TestLostAnswersAreLookedUp(t *testing.T) {
	r := newRig(t)
	r.history.Lose()
	first := r.put(t, t.Context(), key, configMap("a", "1"), 0)
	if !first.Succeeded || uint64(first.Revision) != r.history.Sequence() {
		t.Errorf("%+v, but the write is in the log at %d", first, r.history.Sequence())
	}
	r.history.Fail(fmt.Errorf("the test says so: %w", events.ErrUncertain))
	defer r.history.Fail(nil)
	_, err := r.Kubernetes.OptimisticPut(t.Context(), key, []byte(configMap("a", "2")), first.Revision, kubernetes.PutOptions{})
	if !apierrors.IsTimeout(err) {
		t.Errorf("a write that is nowhere to be seen: %v", err)
	}
}

func TestOpaqueValues(t *testing.T) {
	r := newRig(t)
	for i, value := range []string{"", "plain", `{"no":"kind"}`, `{"kind":"Broken"`, `["kind"]`, "\x00\xff"} {
		key := fmt.Sprintf("/registry/things/%d", i)
		put := r.put(t, t.Context(), key, value, 0)
		resp, err := r.Kubernetes.Get(t.Context(), key, kubernetes.GetOptions{})
		if err != nil || string(resp.KV.Value) != value || resp.KV.ModRevision != put.Revision {
			t.Errorf("put %q, got %v, %v", value, resp.KV, err)
		}
	}
}

func TestVolatileObjectsHaveALogOfTheirOwn(t *testing.T) {
	r := newRig(t)
	before := r.history.Sequence()
	lease := `{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"n1"},"spec":{"leaseDurationSeconds":%d}}`
	key := "/registry/coordination.k8s.io/leases/kube-node-lease/n1"
	first := r.put(t, t.Context(), key, fmt.Sprintf(lease, 1), 0)
	second := r.put(t, t.Context(), key, fmt.Sprintf(lease, 2), first.Revision)
	if r.history.Sequence() != before || uint64(second.Revision) != r.volatile.Sequence() {
		t.Errorf("the history grew to %d, the volatile log to %d", r.history.Sequence(), r.volatile.Sequence())
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := r.put(t, ctx, key, configMap("a", "1"), 0)
	r.put(t, ctx, "/registry/configmaps/shop-2/b", configMap("b", "1"), 0)
	second := r.put(t, ctx, key, configMap("a", "2"), first.Revision)
	w := r.Watch(ctx, "/registry/configmaps/shop/", clientv3.WithPrefix(), clientv3.WithRev(first.Revision), clientv3.WithPrevKV())
	if _, err := r.Kubernetes.OptimisticDelete(ctx, key, second.Revision, kubernetes.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < 3 {
		resp := <-w
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.Events {
			got = append(got, fmt.Sprintf("%s %s create=%v before=%v", e.Type, e.Kv.Key, e.IsCreate(), e.PrevKv != nil))
		}
	}
	want := []string{
		"PUT /registry/configmaps/shop/a create=true before=false",
		"PUT /registry/configmaps/shop/a create=false before=true",
		"DELETE /registry/configmaps/shop/a create=false before=true",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("watched %v, want %v", got, want)
	}
	// Whoever asks for the resource's revision makes the watch hear of it.
	r.put(t, ctx, "/registry/others/x", configMap("x", "1"), 0)
	now, err := r.Kubernetes.Get(ctx, "/registry/configmaps", kubernetes.GetOptions{})
	if err != nil || uint64(now.Revision) != r.history.Sequence() {
		t.Errorf("%+v, %v", now, err)
	}
	if resp := <-w; !resp.IsProgressNotify() || resp.Header.Revision != now.Revision {
		t.Errorf("heard %+v", resp)
	}
	cancel()
	for range w {
	}
}

// What one decision tells of an object in several facts is one change to those who
// watch, whether they hear of it as it happens or catch up.
func TestOneDecisionIsOneChange(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	set := func(name, value string) events.Change {
		return events.Change{
			Type: "configmap.updated", Object: events.Ref{Resource: "configmaps", Namespace: "shop", Name: name}, UID: "u-" + name,
			Data: events.AppendPatch(nil, []events.Op{{Op: "replace", Path: "/data/k", Value: []byte(value)}}),
		}
	}
	watch := func() clientv3.WatchChan {
		return r.Watch(ctx, "/registry/configmaps/", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithPrevKV())
	}
	present := watch()
	d := events.Decision{Changes: []events.Change{set("a", `"2"`), set("b", `"2"`), set("a", `"3"`), set("a", `"4"`)}}
	for _, name := range []string{"a", "b"} {
		at := r.put(t, ctx, "/registry/configmaps/shop/"+name, configMap(name, "1"), 0).Revision
		d.Expect = append(d.Expect, events.Expectation{Object: set(name, "").Object, Sequence: uint64(at)})
	}
	if _, err := r.history.Propose(ctx, events.Proposal{Decision: d, Actor: events.Actor{Kind: "api"}, Basis: r.history.Sequence()}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a: 0 > 2", "b: 0 > 3", "b: 3 > 5", "a: 2 > 7"}
	for name, w := range map[string]clientv3.WatchChan{"as it happens": present, "afterwards": watch()} {
		var got []string
		for len(got) < len(want) {
			resp := <-w
			if err := resp.Err(); err != nil {
				t.Fatal(err)
			}
			for _, e := range resp.Events {
				before := int64(0)
				if e.PrevKv != nil {
					before = e.PrevKv.ModRevision
				}
				got = append(got, fmt.Sprintf("%s: %d > %d", path.Base(string(e.Kv.Key)), before, e.Kv.ModRevision))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: watched %q, want %q", name, got, want)
		}
	}
}

// A watch that is not read falls behind, catches up from what the projection
// keeps, and misses nothing.
func TestSlowWatch(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	w := r.Watch(ctx, "/registry/configmaps/", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithPrevKV())
	const n = 6000
	for i := range n {
		r.put(t, ctx, fmt.Sprintf("/registry/configmaps/shop/%d", i), configMap("a", "1"), 0)
	}
	seen := int64(1)
	for seen < n+1 {
		resp := <-w
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision != seen+1 {
				t.Fatalf("%d follows %d", e.Kv.ModRevision, seen)
			}
			seen++
		}
	}
}

func TestListsOfThePast(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	var revisions []int64
	for i := range 5 {
		revisions = append(revisions, r.put(t, ctx, fmt.Sprintf("/registry/configmaps/shop/%d", i), configMap("a", "1"), 0).Revision)
	}
	if _, err := r.Kubernetes.OptimisticDelete(ctx, "/registry/configmaps/shop/0", revisions[0], kubernetes.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, revision := range revisions {
		resp, err := r.Kubernetes.List(ctx, "/registry/configmaps/", kubernetes.ListOptions{Revision: revision, Limit: 2})
		if err != nil || resp.Count != int64(i+1) || len(resp.Kvs) != min(2, i+1) || resp.Revision != revision {
			t.Errorf("at %d: %d of %d, %v", revision, len(resp.Kvs), resp.Count, err)
		}
	}
	// "shop-2" sorts before "shop" by key, as upstream's caches have it.
	r.put(t, ctx, "/registry/configmaps/shop-2/a", configMap("a", "1"), 0)
	resp, err := r.Kubernetes.List(ctx, "/registry/configmaps/", kubernetes.ListOptions{Limit: 1})
	if err != nil || string(resp.Kvs[0].Key) != "/registry/configmaps/shop-2/a" {
		t.Errorf("%v, %v", resp.Kvs, err)
	}
}

func BenchmarkPut(b *testing.B) {
	r := newRig(b)
	b.ReportAllocs()
	for i := range b.N {
		r.put(b, b.Context(), fmt.Sprintf("/registry/configmaps/shop/%d", i), configMap("a", "1"), 0)
	}
}

// A watch that starts while others write misses nothing, wherever the moment
// falls at which it goes over from what has happened to what happens.
func TestWatchStartsAmidWrites(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	const n = 2000
	go func() {
		for i := range n {
			_, _ = r.Kubernetes.OptimisticPut(ctx, fmt.Sprintf("/registry/configmaps/shop/%d", i), []byte(configMap("a", "1")), 0, kubernetes.PutOptions{})
		}
	}()
	for from := int64(2); from < n; from += n / 50 {
		ctx, cancel := context.WithCancel(ctx)
		w := r.Watch(ctx, "/registry/configmaps/", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithPrevKV())
		for seen := int64(1); seen < from; {
			resp := <-w
			if err := resp.Err(); err != nil {
				t.Fatal(err)
			}
			for _, e := range resp.Events {
				if seen++; e.Kv.ModRevision != seen {
					t.Fatalf("watched %d instead of %d", e.Kv.ModRevision, seen)
				}
			}
		}
		cancel()
	}
}
