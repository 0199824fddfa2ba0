package past

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

const (
	// pagePatience is how long a page is kept that was read before somebody asked for it.
	pagePatience = 2 * time.Second
	// mostPages is how many such pages there are at a time, and mostAhead how many
	// objects one may have: kubectl asks for 500.
	mostPages = 4
	mostAhead = 1000
)

// pages are read before they are asked for: who has come for the second page of a list
// comes for the third, and has this one to read meanwhile. What somebody may see is
// decided when they ask, as ever.
type pages struct {
	backend *backend
	reading sync.WaitGroup

	mu     sync.Mutex
	next   map[place]*page
	closed bool
}

// page is what List answers, before it is known that it will be asked for.
type page struct {
	limit  int64
	cancel context.CancelFunc
	ready  chan struct{} // closed when the rest is set
	part   part
	count  int64 // of the objects from its beginning on
	err    error
}

// begin reads the page at a place, from which on there are so many objects.
func (p *pages) begin(m Moment, here place, limit, count int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.next[here] != nil || len(p.next) == mostPages || limit > mostAhead {
		return
	}
	ctx, cancel := context.WithCancel(context.WithValue(p.backend.ended, momentKey{}, m))
	n := &page{limit: limit, cancel: cancel, ready: make(chan struct{}), count: count}
	p.next[here] = n
	late := time.AfterFunc(pagePatience, func() { p.drop(here, n) })
	p.reading.Go(func() {
		defer close(n.ready)
		defer cancel()
		if n.part, n.err = p.backend.read(ctx, here, limit); n.err == nil {
			n.part.decoded = p.backend.early.decode(here.scope, n.part.kvs)
		}
		if n.err != nil {
			late.Stop()
			p.drop(here, n)
		}
	})
}

// take returns the page at a place, if it is being read or has been.
func (p *pages) take(ctx context.Context, here place, limit int64) *page {
	p.mu.Lock()
	n := p.next[here]
	delete(p.next, here)
	p.mu.Unlock()
	if n == nil {
		return nil
	}
	if n.limit == limit {
		select {
		case <-n.ready:
			if n.err == nil {
				return n
			}
			return nil
		case <-ctx.Done():
		}
	}
	p.forget(n)
	return nil
}

// drop forgets a page that nobody has taken.
func (p *pages) drop(here place, n *page) {
	p.mu.Lock()
	taken := p.next[here] != n
	if !taken {
		delete(p.next, here)
	}
	p.mu.Unlock()
	if !taken {
		p.forget(n)
	}
}

// forget lets go of a page, now or as soon as it has been read.
func (p *pages) forget(n *page) {
	n.cancel()
	go func() {
		<-n.ready
		n.part.decoded.forget()
	}()
}

// close is to be called when the backend's context has ended. It waits until nothing
// is read.
func (p *pages) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.reading.Wait()
}

// read reads a page: the objects from a place on, and whether more follow.
func (b *backend) read(ctx context.Context, here place, limit int64) (p part, err error) {
	for kv, err := range b.from(ctx, here, int(limit)+1) { // One more says that there are more.
		if err != nil {
			return p, err
		}
		if p.more = int64(len(p.kvs)) == limit; p.more {
			break
		}
		p.kvs = append(p.kvs, kv)
	}
	return p, ctx.Err()
}

// list answers a request for a page.
func (b *backend) list(ctx context.Context, here place, limit int64) (kvs []*mvccpb.KeyValue, count int64, err error) {
	a := aheadOf(ctx)
	var n *page
	if a != nil {
		n = b.pages.take(ctx, here, limit)
	}
	if n == nil {
		n = new(page)
		if n.part, err = b.read(ctx, here, limit); err != nil {
			return nil, 0, err
		}
		if a != nil {
			n.part.decoded = b.early.decode(here.scope, n.part.kvs)
		}
	}
	kvs, count = n.part.kvs, n.count
	first := a != nil && a.page(n.part)
	if !n.part.more {
		return kvs, int64(len(kvs)), nil
	}
	if count == 0 {
		if count, err = b.remaining(ctx, here, kvs); err != nil {
			return nil, 0, err
		}
	}
	if m, asked := momentOf(ctx); asked && first && here.from != "" {
		b.pages.begin(m, here.after(kvs), limit, count-int64(len(kvs)))
	}
	return kvs, count, nil
}
