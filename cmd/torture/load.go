package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// client proposes for as long as it may, and enters in the ledger what came of it.
type client struct {
	name   string
	random *rand.Rand
	to     events.Proposer
	ledger *ledger
	n      int
	// volatile says that its objects are Leases.
	volatile bool
	// mine is what the client made and knows to be there, to be changed.
	mine []events.Ref
}

// run proposes until ctx ends.
func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := c.propose(ctx); err != nil {
			// A server that is not there is not asked without a pause.
			pause(ctx, 5*time.Millisecond)
		}
	}
}

// propose proposes one decision.
func (c *client) propose(ctx context.Context) (events.Receipt, error) {
	d := c.ledger.open(c.next())
	receipt, err := c.to.Propose(ctx, events.Proposal{
		Actor: events.Actor{Kind: "api"}, User: c.name, Decision: events.Decision{Changes: d.changes},
	})
	if err != nil && ctx.Err() != nil {
		// Our own giving up: it may be on its way.
		err = errors.Join(err, events.ErrUncertain)
	}
	c.ledger.close(d, receipt, err)
	if err != nil {
		return receipt, err
	}
	for _, change := range d.changes {
		c.mine = append(c.mine, change.Object)
	}
	return receipt, nil
}

// next makes a decision: new objects, one or several, small or large, or changes of
// what is there.
func (c *client) next() (mark string, changes []events.Change) {
	c.n++
	mark = fmt.Sprintf("%s-%d", c.name, c.n)
	n := 1
	if c.random.IntN(3) == 0 {
		n += c.random.IntN(12)
	}
	if c.volatile {
		return mark, c.leases(mark, n)
	}
	for i := range n {
		ref := events.Ref{Resource: "configmaps", Namespace: "torture", Name: fmt.Sprintf("%s-%d", mark, i)}
		changes = append(changes, events.Change{
			Type: "configmap.created", Object: ref,
			Data: fmt.Appendf(nil, `{"data":{"payload":%q},"kind":"ConfigMap","metadata":{"name":%q,"namespace":"torture","uid":%q}}`, c.payload(), ref.Name, "u-"+ref.Name),
		})
	}
	if len(c.mine) > 0 && c.random.IntN(4) == 0 {
		changes = append(changes, events.Change{
			Type: "configmap.data-changed", Object: c.mine[c.random.IntN(len(c.mine))],
			Data: fmt.Appendf(nil, `[{"op":"replace","path":"/data/payload","value":%q}]`, mark),
		})
	}
	return mark, changes
}

// leases are new ones, or one that is there and is put whole.
func (c *client) leases(mark string, n int) (changes []events.Change) {
	for i := range n {
		ref, what := events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "torture", Name: fmt.Sprintf("%s-%d", mark, i)}, "lease.created"
		if i == n-1 && len(c.mine) > 0 && c.random.IntN(4) == 0 {
			ref, what = c.mine[c.random.IntN(len(c.mine))], "lease.renewed"
		}
		changes = append(changes, events.Change{
			Type: what, Object: ref,
			Data: fmt.Appendf(nil, `{"kind":"Lease","metadata":{"annotations":{"payload":%q},"name":%q,"namespace":"torture","uid":%q}}`, c.payload(), ref.Name, "u-"+ref.Name),
		})
	}
	return changes
}

// payload does not compress well; now and then it is large.
func (c *client) payload() string {
	n := c.random.IntN(1500)
	if c.random.IntN(12) == 0 {
		n = c.random.IntN(120_000)
	}
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x", c.random.Uint64())
	}
	return b.String()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// load is several clients at work on one server.
type load struct {
	nc     *nats.Conn
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// startLoad sets n clients to work.
func startLoad(ctx context.Context, s *logSubject, name string, n int, random *rand.Rand) (*load, error) {
	nc, err := dial(s.at, s.seed)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &load{nc: nc, cancel: cancel}
	for i := range n {
		c := s.client(nc, fmt.Sprintf("%s-%d", name, i), rand.New(rand.NewPCG(random.Uint64(), 0)))
		l.done.Go(func() { c.run(ctx) })
	}
	return l, nil
}

// dial connects as a client does.
func dial(at, seed string) (*nats.Conn, error) {
	if seed == "" {
		return jetstream.Connect("nats://" + at)
	}
	key, err := jetstream.WithSeed(seed)
	if err != nil {
		return nil, err
	}
	return jetstream.Connect("nats://"+at, key)
}

// stop ends the load. If the server is dead, it first lets in what the server had
// still sent.
func (l *load) stop(dead bool) {
	if dead {
		gone := l.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
		if l.nc.IsConnected() {
			select {
			case <-gone:
			case <-time.After(5 * time.Second):
			}
		}
	}
	l.cancel()
	l.done.Wait()
	l.nc.Close()
}
