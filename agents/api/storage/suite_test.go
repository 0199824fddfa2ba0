package storage_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/kubernetes"
	apitesting "k8s.io/apimachinery/pkg/api/apitesting"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	upstream "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// This is upstream's own suite for implementations of its storage, run on its
// etcd3 storage over our client: bare, and under its watch cache as in a server.

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

// subject is a storage to be tested, and what the tests need around it.
type subject struct {
	upstream.Interface
	root        string
	cached      bool
	sized       bool // it knows how large objects are
	decodes     bool // it has objects of the projection below
	snapshots   bool // its cache keeps versions of itself
	backend     *storage.Backend
	client      *kubernetes.Client
	recorder    *storagetesting.KubernetesRecorder
	codec       *breakable
	transformer *transformer
	compacted   *compactor
	more        atomic.Int64
	forgotten   sync.Map // the names of what the decoder was to forget
}

func bare(t *testing.T) *subject { return storedBelow(t, "", storagetest.NewLog(t, false)) }

// storedBelow is upstream's storage on a log, with all keys below a root.
func storedBelow(t *testing.T, root string, history *storagetest.Log) *subject {
	s := &subject{
		root:        root,
		codec:       &breakable{Codec: apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion)},
		transformer: &transformer{},
		compacted:   &compactor{},
	}
	s.transformer.set(prefix())
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	b, err := storage.New(ctx, storage.Options{
		History: history.Source(), Volatile: storagetest.NewLog(t, true).Source(),
		Keys:  storage.NewKeys(root, map[schema.GroupResource]string{{Resource: "pods"}: "pods"}),
		Actor: events.Actor{Kind: "api"}, Progress: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.backend, s.client = b, b.Client()
	t.Cleanup(func() { _ = s.client.Close() })
	s.recorder = storagetesting.NewKubernetesRecorder(s.client.Kubernetes)
	s.client.Kubernetes = s.recorder
	config := etcd3.NewDefaultLeaseManagerConfig()
	versioner := upstream.APIObjectVersioner{}
	st, err := etcd3.New(s.client, s.compacted, s.codec, newPod, newPodList, root, "/pods/", schema.GroupResource{Resource: "pods"},
		s.transformer, config, etcd3.NewDefaultDecoder(s.codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	s.Interface = st
	return s
}

// cached puts upstream's watch cache above. The cache wants to know how to make
// the key of an object; one test has objects without a namespace.
func cached(t *testing.T) *subject {
	s := storedBelow(t, "/registry", storagetest.NewLog(t, false))
	s.snapshots = true
	return above(t, s)
}

// objects puts it above what caches in a server have below them.
func objects(t *testing.T) *subject { return objectsOf(t, storagetest.NewLog(t, false)) }

func objectsOf(t *testing.T, history *storagetest.Log) *subject {
	keepsNoVersions(t)
	s := storedBelow(t, "/registry", history)
	s.sized, s.decodes = true, true
	below := s.Interface
	o, err := s.backend.Objects(noting{below}, "/pods/", plainly{s}, newPod)
	if err != nil {
		t.Fatal(err)
	}
	s.Interface = compared{o, below, t}
	return paged(t, above(t, s))
}

// keepsNoVersions has caches be as in a server.
func keepsNoVersions(t *testing.T) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.ListFromCacheSnapshot, false)
}

// paged has all pages of a list be as of one moment.
func paged(t *testing.T, s *subject) *subject {
	p, err := s.backend.Paged(s.Interface, "/pods/")
	if err != nil {
		t.Fatal(err)
	}
	s.Interface = p
	return s
}

// plainly decodes as upstream's storage does.
type plainly struct{ *subject }

func (p plainly) Share(e *projections.Entry) (runtime.Object, error) {
	return p.Decode(context.Background(), "/pods/"+e.Ref.Namespace+"/"+e.Ref.Name, e.Raw)
}

func (p plainly) Decode(ctx context.Context, key string, stored []byte) (runtime.Object, error) {
	doc, _, err := p.transformer.TransformFromStorage(ctx, stored, value.DefaultContext(key))
	if err != nil {
		return nil, err
	}
	return runtime.Decode(p.codec, doc)
}

func (p plainly) Forget(e *projections.Entry) { p.forgotten.Store(e.Ref.Name, true) }

func above(t *testing.T, s *subject) *subject {
	keyOf := upstream.NamespaceKeyFunc
	if strings.HasSuffix(t.Name(), "/RunTestClusterScopedWatch") {
		keyOf = upstream.NoNamespaceKeyFunc
	}
	s.cached = true
	c, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: s.Interface, Versioner: upstream.APIObjectVersioner{}, GroupResource: schema.GroupResource{Resource: "pods"},
		EventsHistoryWindow: cacher.DefaultEventFreshDuration, ResourcePrefix: "/pods/",
		KeyFunc:      func(o runtime.Object) (string, error) { return keyOf("/pods/", o) },
		GetAttrsFunc: attributes, NewFunc: newPod, NewListFunc: newPodList, Codec: s.codec, Clock: hurried{},
		IndexerFuncs: map[string]upstream.IndexerFunc{
			"spec.nodeName": func(o runtime.Object) string { return o.(*example.Pod).Spec.NodeName },
		},
		Indexers: &cache.Indexers{
			"f:spec.nodeName":      func(o any) ([]string, error) { return []string{o.(*example.Pod).Spec.NodeName}, nil },
			"f:metadata.namespace": func(o any) ([]string, error) { return []string{o.(*example.Pod).Namespace}, nil },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var stopping storage.Stopping
		stopping.Begin(c.Stop)
		if !stopping.Await(10 * time.Second) {
			t.Log("the cache does not stop")
		}
	})
	if err := c.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	d := cacher.NewCacheDelegator(c, s.Interface)
	t.Cleanup(d.Stop)
	s.Interface = d
	if strings.Contains(t.Name(), "/RunWatch") {
		s.Interface = settled{d}
	}
	return s
}

// settled waits after a creation until the cache has seen it, as tests expect
// that look at what the cache has at once.
type settled struct{ upstream.Interface }

func (s settled) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	if err := s.Interface.Create(ctx, key, obj, out, ttl); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, time.Millisecond, wait.ForeverTestTimeout, true, func(ctx context.Context) (bool, error) {
		err := s.Get(ctx, key, upstream.GetOptions{ResourceVersion: "0"}, newPod())
		if upstream.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
}

func newPod() runtime.Object     { return &example.Pod{} }
func newPodList() runtime.Object { return &example.PodList{} }

func attributes(o runtime.Object) (labels.Set, fields.Set, error) {
	p, ok := o.(*example.Pod)
	if !ok {
		return nil, nil, fmt.Errorf("%T is not a pod", o)
	}
	return p.Labels, fields.Set{
		"spec.nodeName": p.Spec.NodeName, "spec.restartPolicy": string(p.Spec.RestartPolicy),
		"status.phase": string(p.Status.Phase), "metadata.name": p.Name, "metadata.namespace": p.Namespace,
	}, nil
}

// grow appends an event about something else and returns its revision.
func (s *subject) grow(ctx context.Context, t *testing.T) int64 {
	resp, err := s.client.Kubernetes.OptimisticPut(ctx, fmt.Sprintf("%s/others/%d", s.root, s.more.Add(1)), []byte("ok"), 0, kubernetes.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Revision
}

// compact makes what was before a revision unreadable.
func (s *subject) compact(ctx context.Context, t *testing.T, version string) {
	revision, err := upstream.APIObjectVersioner{}.ParseResourceVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	s.grow(ctx, t) // an etcd's compaction is a write, which the tests count on
	if _, err := s.client.KV.Compact(ctx, int64(revision)); err != nil {
		t.Fatal(err)
	}
	s.compacted.Store(int64(revision))
	if !s.cached {
		return
	}
	old := upstream.ListOptions{
		ResourceVersion: strconv.FormatUint(revision-1, 10), ResourceVersionMatch: metav1.ResourceVersionMatchExact,
		Recursive: true, Predicate: upstream.Everything,
	}
	err = wait.PollUntilContextTimeout(ctx, time.Millisecond, wait.ForeverTestTimeout, true, func(ctx context.Context) (bool, error) {
		err := s.GetList(ctx, "/pods/", old, newPodList())
		// What the cache does not have it passes to the storage below, which may be
		// ahead of it.
		return apierrors.IsResourceExpired(err) && s.CompactRevision() >= int64(revision), nil
	})
	if err != nil {
		t.Fatalf("the cache does not see that revisions before %d are gone: %v", revision, err)
	}
}

// hurried is a clock by which the cache need not wait for a quarter of a minute
// to look for what is gone.
type hurried struct{ clock.RealClock }

func (h hurried) NewTimer(d time.Duration) clock.Timer {
	if d == 15*time.Second {
		d = time.Millisecond
	}
	return &hurriedTimer{h.RealClock.NewTimer(d)}
}

type hurriedTimer struct{ clock.Timer }

func (h *hurriedTimer) Reset(d time.Duration) bool { return h.Timer.Reset(min(d, time.Millisecond)) }

// validate checks what is stored under a key.
func (s *subject) validate(ctx context.Context, t *testing.T, key string) {
	resp, err := s.client.Kubernetes.Get(ctx, s.root+key, kubernetes.GetOptions{})
	if err != nil || resp.KV == nil {
		t.Fatalf("nothing is stored under %s: %v", key, err)
	}
	doc, _, err := s.transformer.TransformFromStorage(ctx, resp.KV.Value, value.DefaultContext(key))
	if err != nil {
		t.Fatal(err)
	}
	o, err := runtime.Decode(s.codec, doc)
	if err != nil {
		t.Fatal(err)
	}
	if p := o.(*example.Pod); p.ResourceVersion != "" {
		t.Errorf("%s is stored with resource version %s", key, p.ResourceVersion)
	}
}

// UpdatePrefixTransformer implements storagetesting.InterfaceWithPrefixTransformer.
func (s *subject) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	before := s.transformer.get()
	s.transformer.set(modify(prefix()))
	return func() { s.transformer.set(before) }
}

// UpdateTransformer implements storagetesting.InterfaceWithTransformerOverride.
func (s *subject) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	before := s.transformer.get()
	s.transformer.set(modify(before))
	return func() { s.transformer.set(before) }
}

func prefix() *storagetesting.PrefixTransformer {
	return storagetesting.NewPrefixTransformer([]byte("test!"), false)
}

// transformer is one that tests exchange.
type transformer struct{ now atomic.Value }

type held struct{ value.Transformer }

func (x *transformer) set(v value.Transformer) { x.now.Store(held{v}) }
func (x *transformer) get() value.Transformer  { return x.now.Load().(held).Transformer }

func (x *transformer) TransformFromStorage(ctx context.Context, data []byte, d value.Context) ([]byte, bool, error) {
	return x.get().TransformFromStorage(ctx, data, d)
}

func (x *transformer) TransformToStorage(ctx context.Context, data []byte, d value.Context) ([]byte, error) {
	return x.get().TransformToStorage(ctx, data, d)
}

// breakable is a codec that tests make fail.
type breakable struct {
	runtime.Codec
	broken atomic.Bool
}

func (b *breakable) fail(yes bool) { b.broken.Store(yes) }

func (b *breakable) Decode(data []byte, kind *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if b.broken.Load() {
		return nil, nil, errors.New("made to fail")
	}
	return b.Codec.Decode(data, kind, into)
}

type compactor struct{ atomic.Int64 }

func (c *compactor) CompactRevision() int64 { return c.Load() }

// corrupt is what upstream's storage makes of an error when it cannot read an
// object; it keeps the type to itself.
func corrupt() error {
	broken := &transformer{}
	broken.set(failing{})
	_, _, err := etcd3.WithCorruptObjErrorHandlingTransformer(broken).TransformFromStorage(context.Background(), nil, value.DefaultContext("key"))
	return err
}

type failing struct{ value.Transformer }

func (failing) TransformFromStorage(context.Context, []byte, value.Context) ([]byte, bool, error) {
	return nil, false, errors.New("bits flipped")
}

// malformed turns a feature on or off, without which objects that cannot be read
// cannot be deleted.
func malformed(t *testing.T, on bool) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.AllowUnsafeMalformedObjectDeletion, on)
}
