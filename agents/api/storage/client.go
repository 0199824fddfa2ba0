package storage

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// client implements the five operations that upstream's storage needs of etcd.
type client struct {
	backend *Backend
}

// Get implements kubernetes.Interface. Upstream asks for the key of a resource,
// which has no value, to learn the revision that its cache must have reached to
// serve a consistent list: see hub.current.
func (c client) Get(ctx context.Context, key string, opts kubernetes.GetOptions) (resp kubernetes.GetResponse, err error) {
	ref, ok := c.backend.keys.Ref(key)
	if !ok {
		return resp, noSuchKey(key)
	}
	s := c.backend.stream(ref)
	if ref.Name == "" {
		last, err := s.hub.current(ctx, groupResource(ref))
		resp.Revision = int64(last)
		return resp, err
	}
	p, err := s.at(ctx, uint64(opts.Revision))
	if err != nil {
		return resp, err
	}
	resp.Revision = int64(p.revision)
	if e := p.get(ref); e != nil {
		resp.KV, err = s.reveal(ctx, []byte(key), e)
	}
	return resp, err
}

// List implements kubernetes.Interface.
func (c client) List(ctx context.Context, prefix string, opts kubernetes.ListOptions) (resp kubernetes.ListResponse, err error) {
	scope, ok := c.backend.keys.Scope(prefix)
	if !ok {
		return resp, noSuchKey(prefix)
	}
	s := c.backend.stream(scope)
	p, err := s.at(ctx, uint64(opts.Revision))
	if err != nil {
		return resp, err
	}
	entries := c.backend.keys.from(opts.Continue, p.ordered(scope))
	resp.Count = int64(len(entries))
	resp.Revision = int64(p.revision)
	if opts.Limit > 0 && opts.Limit < resp.Count {
		entries = entries[:opts.Limit]
	}
	resp.Kvs = make([]*mvccpb.KeyValue, len(entries))
	for i, e := range entries {
		if resp.Kvs[i], err = s.reveal(ctx, []byte(c.backend.keys.Key(e.Ref)), e); err != nil {
			return resp, err
		}
	}
	return resp, nil
}

// Count implements kubernetes.Interface.
func (c client) Count(_ context.Context, prefix string, _ kubernetes.CountOptions) (int64, error) {
	scope, ok := c.backend.keys.Scope(prefix)
	if !ok {
		return 0, noSuchKey(prefix)
	}
	var n int64
	for range c.backend.stream(scope).Projection.View().List(scope.Group, scope.Resource, scope.Namespace) {
		n++
	}
	return n, nil
}

// OptimisticPut implements kubernetes.Interface. A lease is not heeded: what
// etcd keeps for a limited time is volatile, and ages with its log.
func (c client) OptimisticPut(ctx context.Context, key string, value []byte, expected int64, opts kubernetes.PutOptions) (resp kubernetes.PutResponse, err error) {
	ref, ok := c.backend.keys.Ref(key)
	if !ok || ref.Name == "" {
		return resp, noSuchKey(key)
	}
	s := c.backend.stream(ref)
	o, err := s.put(ctx, ref, value, uint64(expected))
	if err != nil {
		return resp, err
	}
	resp.Succeeded, resp.Revision = o.done, int64(o.revision)
	resp.KV, err = s.found(ctx, key, o, opts.GetOnFailure)
	return resp, err
}

// OptimisticDelete implements kubernetes.Interface.
func (c client) OptimisticDelete(ctx context.Context, key string, expected int64, opts kubernetes.DeleteOptions) (resp kubernetes.DeleteResponse, err error) {
	ref, ok := c.backend.keys.Ref(key)
	if !ok || ref.Name == "" {
		return resp, noSuchKey(key)
	}
	s := c.backend.stream(ref)
	o, err := s.remove(ctx, ref, uint64(expected))
	if err != nil {
		return resp, err
	}
	resp.Succeeded, resp.Revision = o.done, int64(o.revision)
	resp.KV, err = s.found(ctx, key, o, opts.GetOnFailure)
	return resp, err
}

// found is what stood in the way of a write.
func (s *stream) found(ctx context.Context, key string, o outcome, wanted bool) (*mvccpb.KeyValue, error) {
	if o.done || !wanted || o.current == nil {
		return nil, nil
	}
	return s.reveal(ctx, []byte(key), o.current)
}

func noSuchKey(key string) error {
	return fmt.Errorf("%q is not a key under which the API keeps an object", key)
}

// NewClient returns an etcd client in form that reads and writes by the five
// operations of objects, and watches by w.
func NewClient(objects kubernetes.Interface, w clientv3.Watcher) *kubernetes.Client {
	c := clientv3.NewCtxClient(context.Background())
	c.KV = kv{objects: objects}
	c.Watcher = w
	c.Lease = lease{}
	c.Maintenance = maintenance{}
	return &kubernetes.Client{Client: c, Kubernetes: objects}
}

// kv implements what upstream uses of clientv3.KV beside the client above: reads
// when a watch starts without a revision, and health checks.
type kv struct {
	clientv3.KV // nil: nothing else is ever called
	objects     kubernetes.Interface
}

// Get implements clientv3.KV.
func (k kv) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	op := clientv3.OpGet(key, opts...)
	end := op.RangeBytes()
	if end == nil {
		one, err := k.objects.Get(ctx, key, kubernetes.GetOptions{Revision: op.Rev()})
		if err != nil {
			return nil, err
		}
		resp := &clientv3.GetResponse{Header: header(uint64(one.Revision))}
		if one.KV != nil {
			resp.Kvs, resp.Count = []*mvccpb.KeyValue{one.KV}, 1
		}
		return resp, nil
	}
	list := kubernetes.ListOptions{Revision: op.Rev(), Limit: op.Limit()}
	prefix := prefixOf(end)
	if key != prefix {
		list.Continue = key
	}
	many, err := k.objects.List(ctx, prefix, list)
	if err != nil {
		return nil, err
	}
	return &clientv3.GetResponse{
		Header: header(uint64(many.Revision)), Kvs: many.Kvs, Count: many.Count,
		More: int64(len(many.Kvs)) < many.Count,
	}, nil
}

// prefixOf undoes clientv3.GetPrefixRangeEnd for the prefixes that end in "/".
func prefixOf(end []byte) string {
	prefix := append([]byte(nil), end...)
	prefix[len(prefix)-1]--
	return string(prefix)
}

// GetStream implements clientv3.KV: upstream then reads by pages.
func (kv) GetStream(context.Context, string, ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return nil, status.Error(codes.Unimplemented, "lists come whole from memory; there is nothing to stream")
}

// Compact implements clientv3.KV. It refuses reads of what was before, of which
// the projection keeps some for a while; the log itself forgets nothing.
func (k kv) Compact(_ context.Context, revision int64, _ ...clientv3.CompactOption) (*clientv3.CompactResponse, error) {
	if c, ok := k.objects.(client); ok {
		c.backend.history.floor.Store(uint64(revision))
	}
	return &clientv3.CompactResponse{Header: header(uint64(revision))}, nil
}

// lease implements what upstream uses of clientv3.Lease. What has a time to live
// is volatile and ages with its log, so there is nothing to grant.
type lease struct {
	clientv3.Lease // nil: nothing else is ever called
}

// Grant implements clientv3.Lease.
func (lease) Grant(_ context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return &clientv3.LeaseGrantResponse{ResponseHeader: &pb.ResponseHeader{}, ID: 1, TTL: ttl}, nil
}

// Close implements clientv3.Lease.
func (lease) Close() error { return nil }

// maintenance implements what upstream uses of clientv3.Maintenance.
type maintenance struct {
	clientv3.Maintenance // nil: nothing else is ever called
}

// Status implements clientv3.Maintenance. The version is of an etcd that has all
// that upstream looks for.
func (maintenance) Status(context.Context, string) (*clientv3.StatusResponse, error) {
	return &clientv3.StatusResponse{Header: &pb.ResponseHeader{}, Version: "3.6.0"}, nil
}
