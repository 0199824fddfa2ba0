package past

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"k8s.io/utils/lru"
)

var errClosed = errors.New("the server is stopping")

// chains starts a chain of servers for each epoch that is asked for, and keeps the
// last few. One that is in use is never stopped for another.
type chains struct {
	options Options
	start   func(Options, uint64) (*chain, error)
	epochs  *lru.Cache // of sequences

	mu      sync.Mutex
	running map[epoch]*kept
	failed  map[epoch]failure
	freed   chan struct{} // closed and made anew when there may be room for a chain
	closed  bool
	// starting is held by the one chain that is being started: it takes a processor
	// for a second. See alone.
	starting chan struct{}
	starts   sync.WaitGroup
	life     context.Context // ends when it is closed
	end      context.CancelFunc
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

// failure is a start that failed, which is not tried again for a while.
type failure struct {
	err   error
	until time.Time
}

const (
	// again is how long a start that failed is not tried again.
	again = time.Minute
	// alone is how long a chain that was made has the processor for itself until it is
	// ready. One that takes longer may hang, and does not hold up others.
	alone = 3 * time.Second
	// roomPatience is how long a request waits until a chain is no longer in use.
	roomPatience = 5 * time.Second
)

func newChains(o Options) *chains {
	life, end := context.WithCancel(context.Background())
	return &chains{
		life: life, end: end, options: o, start: startChain, epochs: lru.New(1024),
		running: map[epoch]*kept{}, failed: map[epoch]failure{}, freed: make(chan struct{}), starting: make(chan struct{}, 1),
	}
}

// at returns the chain that serves a moment, and what says that it is no longer
// needed.
func (c *chains) at(ctx context.Context, sequence uint64) (*chain, func(), error) {
	e, err := c.epochOf(ctx, sequence)
	if err != nil {
		return nil, nil, err
	}
	k, err := c.reach(ctx, e, sequence)
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

// reach is take, with some patience while all chains are in use.
func (c *chains) reach(ctx context.Context, e epoch, sequence uint64) (*kept, error) {
	late := time.NewTimer(roomPatience)
	defer late.Stop()
	for {
		k, drop, freed, err := c.take(e, sequence)
		if drop != nil {
			drop.chain.stop()
		}
		if k != nil || err != nil {
			return k, err
		}
		select {
		case <-freed:
		case <-late.C:
			return nil, fmt.Errorf("%d moments that had other custom resource definitions are being read or watched, and no more are served at a time; end one of these watches, or ask again later", c.options.Chains)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take returns the epoch's chain and counts one more who uses it. It starts the
// chain if there is none, in place of another, which is to be stopped, if there are
// too many. If all are in use it returns none, and what is closed when it is worth
// trying again.
func (c *chains) take(e epoch, sequence uint64) (k, drop *kept, freed <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, nil, errClosed
	}
	k, ok := c.running[e]
	if !ok {
		if err := c.failure(e); err != nil {
			return nil, nil, nil, err
		}
		if len(c.running) >= c.options.Chains {
			if drop = c.spare(); drop == nil {
				return nil, nil, c.freed, nil
			}
			delete(c.running, drop.epoch)
		}
		k = &kept{epoch: e, started: make(chan struct{})}
		c.running[e] = k
		c.starts.Go(func() { c.bring(k, sequence) })
	}
	k.users++
	k.used = time.Now()
	if k.idle != nil {
		k.idle.Stop()
	}
	return k, drop, nil, nil
}

// failure is why an epoch's chain is not to be started now, if so.
func (c *chains) failure(e epoch) error {
	f, ok := c.failed[e]
	left := time.Until(f.until)
	if !ok || left <= 0 {
		delete(c.failed, e)
		return nil
	}
	return fmt.Errorf("%w; this is tried again in %s", f.err, max(left.Round(time.Second), time.Second))
}

// spare is the chain that was used least lately, and is not in use.
func (c *chains) spare() (oldest *kept) {
	for _, k := range c.running {
		if k.chain != nil && k.users == 0 && (oldest == nil || k.used.Before(oldest.used)) {
			oldest = k
		}
	}
	return oldest
}

// free has those look again who wait for room.
func (c *chains) free() {
	close(c.freed)
	c.freed = make(chan struct{})
}

// bring starts a chain.
func (c *chains) bring(k *kept, sequence uint64) {
	chain, err := c.startInTurn(sequence)
	c.mu.Lock()
	k.chain, k.err = chain, err
	if k.err != nil {
		delete(c.running, k.epoch)
		c.forget()
		c.failed[k.epoch] = failure{err, time.Now().Add(again)}
	}
	closed := c.closed
	if closed {
		delete(c.running, k.epoch)
	}
	c.free()
	c.mu.Unlock()
	close(k.started)
	if closed && chain != nil {
		chain.stop()
	}
}

// forget forgets failures of which a while has passed.
func (c *chains) forget() {
	now := time.Now()
	maps.DeleteFunc(c.failed, func(_ epoch, f failure) bool { return !now.Before(f.until) })
}

// startInTurn returns a chain that is ready. One that does not become so is stopped.
func (c *chains) startInTurn(sequence uint64) (*chain, error) {
	c.starting <- struct{}{}
	next := sync.OnceFunc(func() { <-c.starting })
	defer next()
	chain, err := c.startUnlessClosed(sequence)
	if err != nil {
		return nil, err
	}
	defer time.AfterFunc(alone, next).Stop()
	if err := chain.ready(c.life); err != nil {
		chain.stop()
		return nil, err
	}
	return chain, nil
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

// release counts one less who uses a chain, and stops it a while after the last.
func (c *chains) release(k *kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.users--
	k.used = time.Now()
	if k.users > 0 || c.running[k.epoch] != k {
		return
	}
	c.free()
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
	c.free()
	c.mu.Unlock()
	k.chain.stop()
}

// close stops all chains, also those that are being started.
func (c *chains) close() {
	c.mu.Lock()
	c.closed = true
	c.end()
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
	c.starts.Wait()
}
