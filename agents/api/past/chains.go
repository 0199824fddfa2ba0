package past

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/lru"
)

var errClosed = errors.New("the server is stopping")

// chains starts a chain of servers for each epoch that is asked for, and keeps the
// last few.
type chains struct {
	options Options
	start   func(Options, uint64) (*chain, error)
	epochs  *lru.Cache // of sequences

	mu      sync.Mutex
	running map[epoch]*kept
	closed  bool
	// starting is held by the one chain that is being started: it takes a processor
	// for a second.
	starting chan struct{}
}

// epoch stands for a set of custom resource definitions.
type epoch [sha256.Size]byte

// kept is a chain, and who uses it.
type kept struct {
	epoch   epoch
	started chan struct{} // closed when one of these two is set
	chain   *chain
	err     error

	// These are guarded by chains.mu.
	users int
	used  time.Time
	idle  *time.Timer
}

func newChains(o Options) *chains {
	return &chains{
		options: o, start: startChain, epochs: lru.New(1024),
		running: map[epoch]*kept{}, starting: make(chan struct{}, 1),
	}
}

// at returns the chain that serves a moment, and what says that it is no longer
// needed.
func (c *chains) at(ctx context.Context, sequence uint64) (*chain, func(), error) {
	e, err := c.epochOf(ctx, sequence)
	if err != nil {
		return nil, nil, err
	}
	k, err := c.take(e, sequence)
	if err != nil {
		return nil, nil, err
	}
	release := func() { c.release(k) }
	select {
	case <-k.started:
	case <-ctx.Done():
		release()
		return nil, nil, context.Cause(ctx)
	}
	if k.err != nil {
		release()
		return nil, nil, k.err
	}
	return k.chain, release, nil
}

// epochOf tells by the definitions that there were at a moment.
func (c *chains) epochOf(ctx context.Context, sequence uint64) (epoch, error) {
	if e, ok := c.epochs.Get(sequence); ok {
		return e.(epoch), nil
	}
	h := sha256.New()
	for d, err := range c.options.Reader.ListAt(ctx, definitions.Group, definitions.Resource, "", sequence) {
		if err != nil {
			return epoch{}, err
		}
		fmt.Fprintln(h, d.Sequence) // It names the version of one object.
	}
	e := epoch(h.Sum(nil))
	c.epochs.Add(sequence, e)
	return e, nil
}

// take returns the epoch's chain and counts one more who uses it. It starts the
// chain if there is none.
func (c *chains) take(e epoch, sequence uint64) (*kept, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	k, ok := c.running[e]
	if !ok {
		k = &kept{epoch: e, started: make(chan struct{})}
		c.running[e] = k
		go c.bring(k, sequence)
	}
	k.users++
	k.used = time.Now()
	if k.idle != nil {
		k.idle.Stop()
	}
	return k, nil
}

// bring starts a chain, and makes room for it.
func (c *chains) bring(k *kept, sequence uint64) {
	c.starting <- struct{}{}
	defer func() { <-c.starting }()
	chain, err := c.startUnlessClosed(sequence)
	c.mu.Lock()
	k.chain, k.err = chain, err
	if k.err != nil {
		delete(c.running, k.epoch)
	}
	drop := c.surplus(k)
	if c.closed && k.chain != nil {
		drop = append(drop, k)
		delete(c.running, k.epoch)
	}
	c.mu.Unlock()
	close(k.started)
	for _, d := range drop {
		d.chain.stop()
	}
}

func (c *chains) startUnlessClosed(sequence uint64) (*chain, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	return c.start(c.options, sequence)
}

// surplus takes out the chains that were used least lately, those in use last.
func (c *chains) surplus(fresh *kept) (drop []*kept) {
	for len(c.running) > c.options.Chains {
		var oldest *kept
		for _, k := range c.running {
			if k == fresh || k.chain == nil {
				continue
			}
			if oldest == nil || (k.users > 0) != (oldest.users > 0) && k.users == 0 ||
				(k.users > 0) == (oldest.users > 0) && k.used.Before(oldest.used) {
				oldest = k
			}
		}
		if oldest == nil {
			return drop
		}
		delete(c.running, oldest.epoch)
		drop = append(drop, oldest)
	}
	return drop
}

// release counts one less who uses a chain, and stops it a while after the last.
func (c *chains) release(k *kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.users--
	k.used = time.Now()
	if k.users > 0 || c.running[k.epoch] != k {
		return
	}
	if k.idle == nil {
		k.idle = time.AfterFunc(c.options.Idle, func() { c.retire(k) })
		return
	}
	k.idle.Reset(c.options.Idle)
}

// retire stops a chain that nobody uses.
func (c *chains) retire(k *kept) {
	c.mu.Lock()
	if k.users > 0 || c.running[k.epoch] != k || k.chain == nil {
		c.mu.Unlock()
		return
	}
	delete(c.running, k.epoch)
	c.mu.Unlock()
	k.chain.stop()
}

// close stops all chains, and waits for one that is being started.
func (c *chains) close() {
	c.mu.Lock()
	c.closed = true
	var all []*kept
	for e, k := range c.running {
		if k.idle != nil {
			k.idle.Stop()
		}
		if k.chain != nil {
			all = append(all, k)
			delete(c.running, e)
		}
	}
	c.mu.Unlock()
	for _, k := range all {
		k.chain.stop()
	}
	c.starting <- struct{}{}
	<-c.starting
}
