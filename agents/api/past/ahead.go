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
	given  part // what upstream had last, and is done with when it asks for more
	paged  bool // it has asked for a page
}

// part is one chunk, its objects decoded as far as could be, and whether more follow.
type part struct {
	kvs     []*mvccpb.KeyValue
	decoded decoded
	more    bool
	err     error
}

// next returns the chunk that begins at a place, and has the ones after it read.
func (a *ahead) next(ctx context.Context, b *backend, at place) part {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.chunks == nil || a.at != at {
		a.drop()
		out := make(chan part, 1)
		go b.readAhead(ctx, at, out)
		a.chunks = out
	}
	select {
	case p := <-a.chunks:
		if a.at = at.after(p.kvs); !p.more {
			a.chunks = nil
		}
		a.give(p)
		return p
	case <-ctx.Done():
		return part{err: context.Cause(ctx)}
	}
}

// page keeps a page until upstream is done with it, and says whether it is the first
// one that the request reads.
func (a *ahead) page(p part) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first = !a.paged
	a.paged = true
	a.give(p)
	return first
}

func (a *ahead) give(p part) {
	a.given.decoded.forget()
	a.given = p
}

// end is to be called when the request has been answered and its context has ended.
func (a *ahead) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop()
	a.give(part{})
}

// drop lets go of chunks that nobody will ask for.
func (a *ahead) drop() {
	if chunks := a.chunks; chunks != nil {
		a.chunks = nil
		go func() {
			for p := range chunks {
				p.decoded.forget()
			}
		}()
	}
}

// readAhead sends a list in chunks until the context ends.
func (b *backend) readAhead(ctx context.Context, at place, out chan<- part) {
	defer close(out)
	send := func(p part) bool {
		p.decoded = b.early.decode(at.scope, p.kvs)
		select {
		case out <- p:
			return true
		case <-ctx.Done():
			p.decoded.forget()
			return false
		}
	}
	var kvs []*mvccpb.KeyValue
	for kv, err := range b.from(ctx, at, 0) {
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

// after is where a list goes on behind some objects of it.
func (p place) after(kvs []*mvccpb.KeyValue) place {
	if n := len(kvs); n > 0 {
		p.from = string(kvs[n-1].Key) + "\x00"
	}
	return p
}
