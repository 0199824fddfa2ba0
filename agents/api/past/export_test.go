package past

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/reprise-run/reprise/agents/api/storage"
)

// Reads is what upstream's storage reads by, as of the sequence that is now the last.
func Reads(o Options, keys *storage.Keys, last func() uint64) kubernetes.Interface {
	b := newBackend(context.Background(), o, 1)
	b.keys, b.chunk = keys, 2
	return reads{b, last, new(ahead)}
}

type reads struct {
	*backend
	last func() uint64
	// ahead goes on from call to call, as within one request.
	ahead *ahead
}

func (r reads) Get(ctx context.Context, key string, opts kubernetes.GetOptions) (kubernetes.GetResponse, error) {
	ctx, end := within(ctx, Moment{Sequence: r.last()})
	defer end()
	return r.backend.Get(ctx, key, opts)
}

func (r reads) List(ctx context.Context, prefix string, opts kubernetes.ListOptions) (kubernetes.ListResponse, error) {
	ctx, _ = within(ctx, Moment{Sequence: r.last()})
	r.ahead.paged = false // Each page is the first of its request, so that the next is read ahead.
	return r.backend.List(context.WithValue(ctx, aheadKey{}, r.ahead), prefix, opts)
}

// Scratch is the storage of what a chain of servers writes for itself.
func Scratch() (kubernetes.Interface, clientv3.Watcher) {
	s := scratchClient{newScratch()}
	return s, s
}

type scratchClient struct{ s *scratch }

func (c scratchClient) Get(_ context.Context, key string, _ kubernetes.GetOptions) (kubernetes.GetResponse, error) {
	return c.s.get(key), nil
}

func (c scratchClient) List(_ context.Context, prefix string, opts kubernetes.ListOptions) (kubernetes.ListResponse, error) {
	return c.s.list(prefix, opts), nil
}

func (c scratchClient) Count(_ context.Context, prefix string, _ kubernetes.CountOptions) (int64, error) {
	return c.s.list(prefix, kubernetes.ListOptions{}).Count, nil
}

func (c scratchClient) OptimisticPut(_ context.Context, key string, value []byte, expected int64, opts kubernetes.PutOptions) (kubernetes.PutResponse, error) {
	return c.s.put(key, value, expected, opts), nil
}

func (c scratchClient) OptimisticDelete(_ context.Context, key string, expected int64, opts kubernetes.DeleteOptions) (kubernetes.DeleteResponse, error) {
	return c.s.remove(key, expected, opts), nil
}

func (c scratchClient) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	op := clientv3.OpGet(key, opts...)
	out := make(chan clientv3.WatchResponse)
	go c.s.watch(ctx, key, op.RangeBytes() != nil, op.Rev(), out)
	return out
}

func (scratchClient) RequestProgress(context.Context) error { return nil }
func (scratchClient) Close() error                          { return nil }

// PodEncoder writes lists of pods as e does.
func PodEncoder(e runtime.Encoder) runtime.Encoder { return podEncoder{e} }

// Running says how many chains of servers run.
func (p *Past) Running() int {
	p.chains.mu.Lock()
	defer p.chains.mu.Unlock()
	return len(p.chains.running)
}

// Refusal is what a request about the past is refused with.
var Refusal = refusal
