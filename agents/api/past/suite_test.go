package past_test

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	apitesting "k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	upstream "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"

	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
)

// This is what upstream's suite for implementations of its storage asks of reads,
// on its etcd3 storage: reading the history, and what a chain keeps for itself.

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

// subject is a storage to be tested.
type subject struct {
	upstream.Interface
	*storagetesting.PrefixTransformer
}

func (s subject) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	modify(s.PrefixTransformer)
	return func() {}
}

func over(t *testing.T, objects kubernetes.Interface, w clientv3.Watcher) subject {
	t.Helper()
	codec := apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion)
	versioner := upstream.APIObjectVersioner{}
	transformer := storagetesting.NewPrefixTransformer([]byte("test!"), false)
	st, err := etcd3.New(storage.NewClient(objects, w), compacted{}, codec,
		func() runtime.Object { return &example.Pod{} }, func() runtime.Object { return &example.PodList{} },
		"", "/pods/", schema.GroupResource{Resource: "pods"}, transformer,
		etcd3.NewDefaultLeaseManagerConfig(), etcd3.NewDefaultDecoder(codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return subject{st, transformer}
}

type compacted struct{}

func (compacted) CompactRevision() int64 { return 0 }

// split writes to one place and reads from another.
type split struct {
	kubernetes.Interface
	reads kubernetes.Interface
}

func (s split) Get(ctx context.Context, key string, opts kubernetes.GetOptions) (kubernetes.GetResponse, error) {
	return s.reads.Get(ctx, key, opts)
}

func (s split) List(ctx context.Context, prefix string, opts kubernetes.ListOptions) (kubernetes.ListResponse, error) {
	return s.reads.List(ctx, prefix, opts)
}

// history writes to a log and reads the past of it that has just been.
func history(t *testing.T) subject {
	store := newStore(t)
	log := storagetest.NewStoredLog(t, store)
	keys := storage.NewKeys("", map[schema.GroupResource]string{{Resource: "pods"}: "pods"})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	b, err := storage.New(ctx, storage.Options{
		History: log.Source(), Volatile: storagetest.NewLog(t, true).Source(), Keys: keys, Actor: events.Actor{Kind: "api"},
	})
	if err != nil {
		t.Fatal(err)
	}
	live := b.Client()
	return over(t, split{live.Kubernetes, past.Reads(past.Options{Reader: store}, keys, log.Sequence)}, live.Watcher)
}

func TestUpstreamReadsHistory(t *testing.T) {
	any := storagetesting.CallsValidation(func(*testing.T, uint64, uint64) {})
	for name, test := range map[string]func(context.Context, *testing.T, subject){
		"Get":        func(ctx context.Context, t *testing.T, s subject) { storagetesting.RunTestGet(ctx, t, s) },
		"ListPaging": func(ctx context.Context, t *testing.T, s subject) { storagetesting.RunTestListPaging(ctx, t, s) },
		"NamespaceScopedList": func(ctx context.Context, t *testing.T, s subject) {
			storagetesting.RunTestNamespaceScopedList(ctx, t, s)
		},
		"RecursivePrefix": func(ctx context.Context, t *testing.T, s subject) {
			storagetesting.RunTestGetListRecursivePrefix(ctx, t, s)
		},
		"Continuation": func(ctx context.Context, t *testing.T, s subject) {
			storagetesting.RunTestListContinuation(ctx, t, s, any)
		},
		"RareObject": func(ctx context.Context, t *testing.T, s subject) {
			storagetesting.RunTestListPaginationRareObject(ctx, t, s, any)
		},
		"ContinuationFilter": func(ctx context.Context, t *testing.T, s subject) {
			storagetesting.RunTestListContinuationWithFilter(ctx, t, s, any)
		},
		"ResourceVersionMatch": func(ctx context.Context, t *testing.T, s subject) {
			storagetesting.RunTestListResourceVersionMatch(ctx, t, s)
		},
	} {
		t.Run(name, func(t *testing.T) { test(t.Context(), t, history(t)) })
	}
}

func TestUpstreamKeepsItsOwn(t *testing.T) {
	for name, test := range map[string]func(context.Context, *testing.T, upstream.Interface){
		"CreateWithKeyExist":         storagetesting.RunTestCreateWithKeyExist,
		"Get":                        storagetesting.RunTestGet,
		"UnconditionalDelete":        storagetesting.RunTestUnconditionalDelete,
		"ConditionalDelete":          storagetesting.RunTestConditionalDelete,
		"DeleteWithConflict":         storagetesting.RunTestDeleteWithConflict,
		"UpdateWithConflict":         storagetesting.RunTestGuaranteedUpdateWithConflict,
		"NamespaceScopedList":        storagetesting.RunTestNamespaceScopedList,
		"Watch":                      storagetesting.RunTestWatch,
		"WatchFromNonZero":           storagetesting.RunTestWatchFromNonZero,
		"DeleteTriggerWatch":         storagetesting.RunTestDeleteTriggerWatch,
		"DelayedWatchDelivery":       storagetesting.RunTestDelayedWatchDelivery,
		"WatchContextCancel":         storagetesting.RunTestWatchContextCancel,
		"WatchDeleteObjectHasLatest": storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV,
		"ClusterScopedWatch":         storagetesting.RunTestClusterScopedWatch,
		"NamespaceScopedWatch":       storagetesting.RunTestNamespaceScopedWatch,
	} {
		t.Run(name, func(t *testing.T) {
			objects, w := past.Scratch()
			test(t.Context(), t, over(t, objects, w))
		})
	}
}
