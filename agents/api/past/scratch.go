package past

import (
	"context"
	"slices"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// scratch is what a chain of servers writes for itself, in memory: an etcd as far
// as upstream's storage uses one. It remembers every change, of which there are a
// few hundred.
type scratch struct {
	mu      sync.Mutex
	objects map[string]*mvccpb.KeyValue
	changes []*clientv3.Event // the first one made revision 2
	grown   chan struct{}     // closed at the next change
}

func newScratch() *scratch {
	return &scratch{objects: map[string]*mvccpb.KeyValue{}, grown: make(chan struct{})}
}

func (s *scratch) revision() int64 { return int64(len(s.changes)) + 1 }

func (s *scratch) get(key string) kubernetes.GetResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return kubernetes.GetResponse{KV: s.objects[key], Revision: s.revision()}
}

func (s *scratch) list(prefix string, opts kubernetes.ListOptions) kubernetes.ListResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := kubernetes.ListResponse{Revision: s.revision()}
	for key, kv := range s.objects {
		if strings.HasPrefix(key, prefix) && key >= opts.Continue {
			resp.Kvs = append(resp.Kvs, kv)
		}
	}
	slices.SortFunc(resp.Kvs, func(a, b *mvccpb.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	resp.Count = int64(len(resp.Kvs))
	if opts.Limit > 0 && opts.Limit < resp.Count {
		resp.Kvs = resp.Kvs[:opts.Limit]
	}
	return resp
}

// put replaces the value of a key that was last changed at the expected revision,
// 0 for absent.
func (s *scratch) put(key string, value []byte, expected int64, opts kubernetes.PutOptions) (resp kubernetes.PutResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.objects[key]
	resp.Succeeded = revisionOf(before) == expected
	if !resp.Succeeded {
		resp.Revision = s.revision()
		if opts.GetOnFailure {
			resp.KV = before
		}
		return resp
	}
	revision := s.revision() + 1
	after := &mvccpb.KeyValue{Key: []byte(key), Value: slices.Clone(value), CreateRevision: revision, ModRevision: revision, Version: 1}
	if before != nil {
		after.CreateRevision, after.Version = before.CreateRevision, before.Version+1
	}
	s.objects[key] = after
	s.grow(&clientv3.Event{Type: mvccpb.PUT, Kv: after, PrevKv: before})
	resp.Revision = revision
	return resp
}

// remove deletes the key that was last changed at the expected revision.
func (s *scratch) remove(key string, expected int64, opts kubernetes.DeleteOptions) (resp kubernetes.DeleteResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.objects[key]
	resp.Succeeded = revisionOf(before) == expected
	if !resp.Succeeded || before == nil {
		resp.Revision = s.revision()
		if opts.GetOnFailure {
			resp.KV = before
		}
		return resp
	}
	delete(s.objects, key)
	resp.Revision = s.revision() + 1
	s.grow(&clientv3.Event{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: resp.Revision}, PrevKv: before})
	return resp
}

func revisionOf(kv *mvccpb.KeyValue) int64 {
	if kv == nil {
		return 0
	}
	return kv.ModRevision
}

func (s *scratch) grow(e *clientv3.Event) {
	s.changes = append(s.changes, e)
	close(s.grown)
	s.grown = make(chan struct{})
}

// watch sends the changes of a key, or of all below a prefix, from a revision on,
// 0 for the next one, until the context ends.
func (s *scratch) watch(ctx context.Context, key string, below bool, from int64, out chan<- clientv3.WatchResponse) {
	defer close(out)
	s.mu.Lock()
	next := len(s.changes)
	s.mu.Unlock()
	if from > 0 {
		next = int(max(from, 2)) - 2
	}
	for {
		s.mu.Lock()
		var fresh []*clientv3.Event
		if next < len(s.changes) {
			fresh = s.changes[next:]
			next = len(s.changes)
		}
		grown := s.grown
		s.mu.Unlock()
		for _, e := range fresh {
			if name := string(e.Kv.Key); name != key && !(below && strings.HasPrefix(name, key)) {
				continue
			}
			select {
			case out <- clientv3.WatchResponse{Header: &pb.ResponseHeader{Revision: e.Kv.ModRevision}, Events: []*clientv3.Event{e}}:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return
		}
	}
}
