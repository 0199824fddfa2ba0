package past

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/upstream"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
)

// definitions are the resource that says which custom resources there are.
var definitions = events.Ref{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}

// backend is what the etcd clients of one chain of servers read from: for a
// request the history, at the moment in the request's context; for the chain
// itself the definitions of custom resources as of its epoch, and what it has
// written for itself, and nothing else. It implements kubernetes.Interface.
type backend struct {
	reader  history.Reader
	keys    *storage.Keys
	reveal  Reveal
	epoch   uint64 // a sequence at which the definitions were the chain's
	scratch *scratch
	chunk   int // of a list without a limit
	early   *early
	pages   *pages
	ended   context.Context // ends watches
}

func newBackend(ended context.Context, o Options, epoch uint64) *backend {
	b := &backend{
		reader: o.Reader, keys: upstream.Keys(), reveal: o.Reveal, epoch: epoch,
		scratch: newScratch(), chunk: chunk, early: newEarly(), ended: ended,
	}
	b.pages = &pages{backend: b, next: map[place]*page{}}
	return b
}

func (b *backend) client() *kubernetes.Client {
	return storage.NewClient(b, watcher{b})
}

// sequence is that at which a read within a context looks at the history, as far
// as the revision that upstream asks for allows. It is 0 if there is nothing to
// look at: what is volatile has no history.
func (b *backend) sequence(ctx context.Context, r events.Ref, revision int64) (at, shown uint64, err error) {
	shown = b.epoch
	m, asked := momentOf(ctx)
	if asked {
		shown = m.Sequence
	}
	if revision > 0 {
		if uint64(revision) > shown {
			return 0, shown, rpctypes.ErrFutureRev
		}
		shown = uint64(revision)
	}
	if events.Volatile(r) || !asked && r.GroupResource() != definitions.GroupResource() {
		return 0, shown, nil
	}
	return shown, shown, nil
}

// own says whether a read or write is one of the chain's own affairs: the list of
// the APIs that it serves.
func own(ctx context.Context, r events.Ref) bool {
	_, asked := momentOf(ctx)
	return !asked && r.Group == "apiregistration.k8s.io" && r.Resource == "apiservices"
}

// Get implements kubernetes.Interface.
func (b *backend) Get(ctx context.Context, key string, opts kubernetes.GetOptions) (resp kubernetes.GetResponse, err error) {
	ref, ok := b.keys.Ref(key)
	if !ok {
		return resp, noSuchKey(key)
	}
	if own(ctx, ref) {
		return b.scratch.get(key), nil
	}
	at, shown, err := b.sequence(ctx, ref, opts.Revision)
	resp.Revision = int64(shown)
	if err != nil || at == 0 || ref.Name == "" {
		return resp, err
	}
	e, err := b.reader.At(ref, at)
	if err != nil || e == nil {
		return resp, err
	}
	resp.KV, err = b.value(key, e)
	return resp, err
}

// List implements kubernetes.Interface. The order is that of the history, which
// upstream does not mind.
func (b *backend) List(ctx context.Context, prefix string, opts kubernetes.ListOptions) (resp kubernetes.ListResponse, err error) {
	scope, ok := b.keys.Scope(prefix)
	if !ok {
		return resp, noSuchKey(prefix)
	}
	if own(ctx, scope) {
		return b.scratch.list(prefix, opts), nil
	}
	at, shown, err := b.sequence(ctx, scope, opts.Revision)
	resp.Revision = int64(shown)
	if err != nil || at == 0 || scope.Name != "" {
		return resp, err
	}
	here := place{scope: scope, at: at}
	if opts.Continue > prefix {
		here.from = opts.Continue
	}
	if a := aheadOf(ctx); a != nil && opts.Limit == 0 {
		p := a.next(ctx, b, here)
		resp.Kvs, resp.Count = p.kvs, int64(len(p.kvs))
		if p.more {
			resp.Count++ // Upstream asks again; how many follow it does not need to know.
		}
		return resp, p.err
	}
	if opts.Limit > 0 {
		resp.Kvs, resp.Count, err = b.list(ctx, here, opts.Limit)
		return resp, err
	}
	for kv, err := range b.from(ctx, here, 0) {
		if err != nil {
			return resp, err
		}
		resp.Kvs = append(resp.Kvs, kv)
	}
	resp.Count = int64(len(resp.Kvs))
	return resp, err
}

// from yields the objects of a list from a place on, the first most if that is not 0.
func (b *backend) from(ctx context.Context, p place, most int) iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		start, skip := p.scope, false
		if p.from != "" {
			var ok bool
			if start, ok = b.keys.Ref(strings.TrimSuffix(p.from, "\x00")); !ok {
				yield(nil, noSuchKey(p.from))
				return
			}
			if skip = strings.HasSuffix(p.from, "\x00"); skip && most > 0 {
				most++
			}
		}
		for e, err := range b.reader.ListFrom(ctx, start, p.scope.Namespace, p.at, most) {
			var kv *mvccpb.KeyValue
			if err == nil {
				if skip && e.Ref == start {
					continue
				}
				kv, err = b.value(b.keys.Key(e.Ref), e)
			}
			if !yield(kv, err) || err != nil {
				return
			}
		}
	}
}

// remaining counts the objects from a place on, of which those in page are the
// first.
func (b *backend) remaining(ctx context.Context, here place, page []*mvccpb.KeyValue) (int64, error) {
	last, _ := b.keys.Ref(string(page[len(page)-1].Key))
	n, err := b.reader.CountFrom(ctx, last, here.scope.Namespace, here.at)
	return int64(len(page) - 1 + n), err
}

// Count implements kubernetes.Interface. Upstream asks only to estimate costs.
func (b *backend) Count(context.Context, string, kubernetes.CountOptions) (int64, error) {
	return 0, nil
}

// OptimisticPut implements kubernetes.Interface.
func (b *backend) OptimisticPut(ctx context.Context, key string, value []byte, expected int64, opts kubernetes.PutOptions) (resp kubernetes.PutResponse, err error) {
	ref, ok := b.keys.Ref(key)
	if !ok || !own(ctx, ref) {
		return resp, errReadOnly
	}
	return b.scratch.put(key, value, expected, opts), nil
}

// OptimisticDelete implements kubernetes.Interface.
func (b *backend) OptimisticDelete(ctx context.Context, key string, expected int64, opts kubernetes.DeleteOptions) (resp kubernetes.DeleteResponse, err error) {
	ref, ok := b.keys.Ref(key)
	if !ok || !own(ctx, ref) {
		return resp, errReadOnly
	}
	return b.scratch.remove(key, expected, opts), nil
}

// value is an object as it is shown.
func (b *backend) value(key string, e *projections.Entry) (*mvccpb.KeyValue, error) {
	if b.reveal != nil {
		raw, err := b.reveal(e)
		if err != nil {
			return nil, fmt.Errorf("%s at sequence %d: %w", e.Ref, e.Sequence, err)
		}
		if len(raw) == 0 || &raw[0] != &e.Raw[0] {
			e = projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, raw)
		}
	}
	return storage.KeyValue([]byte(key), e)
}

func noSuchKey(key string) error {
	return fmt.Errorf("%q is not a key under which the API keeps an object", key)
}

// watcher implements clientv3.Watcher.
type watcher struct{ backend *backend }

// Watch implements clientv3.Watcher. The past does not change: once upstream has
// sent what there is, nothing follows. Who wants the changes since an earlier
// revision is told to list again.
func (w watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	op := clientv3.OpGet(key, opts...)
	out := make(chan clientv3.WatchResponse, 1)
	ref, ok := w.backend.keys.Ref(key)
	if op.RangeBytes() != nil {
		ref, ok = w.backend.keys.Scope(key)
	}
	if !ok {
		out <- clientv3.WatchResponse{Canceled: true, CancelReason: noSuchKey(key).Error()}
		close(out)
		return out
	}
	if own(ctx, ref) {
		go w.backend.scratch.watch(ctx, key, op.RangeBytes() != nil, op.Rev(), out)
		return out
	}
	_, shown, _ := w.backend.sequence(ctx, ref, 0)
	if op.Rev() > 0 && uint64(op.Rev()) <= shown {
		out <- clientv3.WatchResponse{Canceled: true, CompactRevision: int64(shown)}
		close(out)
		return out
	}
	go w.rest(ctx, shown, op.IsProgressNotify(), out)
	return out
}

// rest keeps a watch open, and says now and then that nothing has happened.
func (w watcher) rest(ctx context.Context, shown uint64, notify bool, out chan<- clientv3.WatchResponse) {
	defer close(out)
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		case <-w.backend.ended.Done():
			return
		}
		if !notify {
			continue
		}
		select {
		case out <- clientv3.WatchResponse{Header: &pb.ResponseHeader{Revision: int64(shown)}}:
		case <-ctx.Done():
			return
		}
	}
}

// RequestProgress implements clientv3.Watcher.
func (watcher) RequestProgress(context.Context) error { return nil }

// Close implements clientv3.Watcher.
func (watcher) Close() error { return nil }
