package past

import (
	"context"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/reprise-run/reprise/events"
)

// chunk is how many objects of a list without a limit upstream gets at a time. While
// it decodes them the next ones are read, and no list is whole in memory twice.
const chunk = 500

// ahead is the list that a request is reading. Upstream reads one at a time, chunk by
// chunk; where it goes on is the place at which the next chunk begins.
type ahead struct {
	mu     sync.Mutex
	at     place
	chunks <-chan part
}

// part is one chunk, and whether more follow.
type part struct {
	kvs  []*mvccpb.KeyValue
	more bool
	err  error
}

// next returns the chunk that begins at a place, and has the ones after it read.
func (a *ahead) next(ctx context.Context, b *backend, at place) part {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.chunks == nil || a.at != at {
		out := make(chan part, 1)
		go b.readAhead(ctx, at, out)
		a.chunks = out
	}
	select {
	case p := <-a.chunks:
		if n := len(p.kvs); n > 0 {
			at.from = string(p.kvs[n-1].Key) + "\x00"
		}
		if a.at = at; !p.more {
			a.chunks = nil
		}
		return p
	case <-ctx.Done():
		return part{err: context.Cause(ctx)}
	}
}

// readAhead sends a list in chunks until the context ends.
func (b *backend) readAhead(ctx context.Context, at place, out chan<- part) {
	send := func(p part) bool {
		select {
		case out <- p:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var kvs []*mvccpb.KeyValue
	for kv, err := range b.from(ctx, at) {
		if err != nil {
			send(part{err: err})
			return
		}
		if len(kvs) == b.chunk {
			if !send(part{kvs: kvs, more: true}) {
				return
			}
			kvs = make([]*mvccpb.KeyValue, 0, b.chunk)
		}
		kvs = append(kvs, kv)
	}
	send(part{kvs: kvs})
}

type aheadKey struct{}

// aheadOf returns what a request reads ahead.
func aheadOf(ctx context.Context) *ahead {
	a, _ := ctx.Value(aheadKey{}).(*ahead)
	return a
}

// place is where a list goes on: the part of the resource that is listed, as of a
// sequence, from a key on.
type place struct {
	scope events.Ref
	at    uint64
	from  string
}
