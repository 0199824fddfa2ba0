// Package presence knows which nodes are there. A node is heard every few seconds; a
// server that hears it keeps the time in memory and tells the other servers now and
// then. Only where the node's Lease, which people and tools can see, has not been
// renewed for long is the node told to renew it: so ten thousand nodes that are well
// put next to nothing into any log.
//
// Nothing here decides that a node is lost. Who does reads Leases through Over, which
// shows in each when its node was last heard.
//
// A node says so with what it proposes (decision 0399); if it has nothing to propose, with
// the question how far its feed is (package feed, decision 0381), or, where no server feeds
// it that hears, by a call of its own:
//
//	<prefix>-bus.call.<node>.alive   node -> one server
//	<prefix>-bus.heard               server -> all servers, who was heard
package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

const (
	methodAlive = "alive"
	// patience is how long a node waits to be heard.
	patience = 10 * time.Second
	// telling is how often servers tell each other.
	telling = 2 * time.Second
	// forgotten is after how long a silent node is forgotten: long after it is lost, so that
	// its Lease says no less.
	forgotten = time.Hour
)

// Presence is what one server knows of the nodes.
type Presence struct {
	now    func() time.Time
	leases func() projections.Reader
	lasts  time.Duration

	mu    sync.Mutex
	heard map[string]time.Time
	// news are the nodes of which the other servers have not been told.
	news map[string]bool
}

// answer is what a node is told: whether to renew its Lease.
type answer struct {
	Renew bool `json:",omitempty"`
}

// New returns a Presence that has heard nobody. Leases are those of the nodes, as
// they are recorded now; each lasts so long, and is renewed when half of that has
// passed.
func New(leases live.Projection, lasts time.Duration, now func() time.Time) *Presence {
	return &Presence{now: now, leases: leases.View, lasts: lasts, heard: map[string]time.Time{}, news: map[string]bool{}}
}

// Serve hears nodes, and the other servers, until ctx ends. ready, which may be nil,
// is called when nodes are heard.
func (p *Presence) Serve(ctx context.Context, nc *nats.Conn, prefix string, ready func()) error {
	calls, err := nc.QueueSubscribe(bus.AnyNode(prefix).Call(methodAlive), "presence", func(m *nats.Msg) {
		if node, ok := bus.Caller(m.Subject); ok {
			// If the answer is lost, the node calls again.
			_ = bus.Answer(m, encode(answer{Renew: p.Hear(node)}))
		}
	})
	if err != nil {
		return fmt.Errorf("cannot hear nodes: %w", err)
	}
	// It fails only if the connection is gone, and then nothing comes.
	defer func() { _ = calls.Unsubscribe() }()
	told, err := nc.Subscribe(heardSubject(prefix), func(m *nats.Msg) { p.told(m.Data) })
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		return fmt.Errorf("cannot hear which nodes other servers hear: %w", err)
	}
	defer func() { _ = told.Unsubscribe() }()
	if ready != nil {
		ready()
	}
	tick, sweep := time.NewTicker(telling), time.NewTicker(forgotten)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			p.forget()
		case <-tick.C:
			if names := p.tell(); names != nil {
				// What is lost is told again when the nodes are heard again.
				_ = nc.Publish(heardSubject(prefix), names)
			}
		}
	}
}

func heardSubject(prefix string) string { return prefix + "-bus.heard" }

// Note takes note of a node that is there.
func (p *Presence) Note(node string) {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard[node], p.news[node] = now, true
}

// Hear takes note of a node that says that it is there, and says whether it is to renew its
// Lease.
func (p *Presence) Hear(node string) (renew bool) {
	p.Note(node)
	renewed := renewal(p.leases().Get(leaseOf(node)))
	return renewed.Add(p.lasts / 2).Before(p.now())
}

func encode(a answer) []byte {
	body, err := json.Marshal(a)
	if err != nil {
		panic(fmt.Sprintf("cannot encode an answer: %v", err))
	}
	return body
}

// tell returns who was heard since it was asked last, nil if nobody was.
func (p *Presence) tell() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.news) == 0 {
		return nil
	}
	names := make([]string, 0, len(p.news))
	for node := range p.news {
		names = append(names, node)
	}
	clear(p.news)
	body, err := json.Marshal(names)
	if err != nil {
		panic(fmt.Sprintf("cannot encode names: %v", err))
	}
	return body
}

// told takes note of nodes that a server, maybe this one, has heard in the last
// moments. Who was heard later stays heard then.
func (p *Presence) told(body []byte) {
	var names []string
	if json.Unmarshal(body, &names) != nil {
		return // It is of a newer version, which does not tell us.
	}
	at := p.now().Add(-telling)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, node := range names {
		if at.After(p.heard[node]) {
			p.heard[node] = at
		}
	}
}

// forget drops the nodes that have long been silent, most of which are gone for good.
func (p *Presence) forget() {
	old := p.now().Add(-forgotten)
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.heard, func(_ string, at time.Time) bool { return at.Before(old) })
}

// lastHeard is when a node was heard, zero if it was not.
func (p *Presence) lastHeard(node string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard[node]
}

func leaseOf(node string) events.Ref {
	return events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: v1.NamespaceNodeLease, Name: node}
}

// renewal is when a Lease was last renewed, zero if there is none.
func renewal(e *projections.Entry) time.Time {
	if e == nil {
		return time.Time{}
	}
	if at := projections.As[coordinationv1.Lease](e).Spec.RenewTime; at != nil {
		return at.Time
	}
	return time.Time{}
}

// Over returns a projection that shows the Leases of nodes as if each had been
// renewed when its node was last heard. Changes are those of p.
func (p *Presence) Over(of live.Projection) live.Projection { return over{of, p} }

type over struct {
	live.Projection
	p *Presence
}

// View is live.Projection's.
func (o over) View() projections.Reader { return view{o.Projection.View(), o.p} }

type view struct {
	projections.Reader
	p *Presence
}

// Get is projections.Reader's.
func (v view) Get(r events.Ref) *projections.Entry {
	e := v.Reader.Get(r)
	if e == nil || r != leaseOf(r.Name) {
		return e
	}
	heard := v.p.lastHeard(r.Name)
	if !heard.After(renewal(e)) {
		return e
	}
	lease := projections.As[coordinationv1.Lease](e).DeepCopy()
	at := metav1.NewMicroTime(heard)
	lease.Spec.RenewTime = &at
	raw, err := json.Marshal(lease)
	if err == nil {
		raw, err = events.Canonical(raw)
	}
	if err != nil {
		panic(fmt.Sprintf("a lease that was decoded cannot be encoded: %v", err))
	}
	return projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, raw)
}

// Alive tells a server that a node is there, and returns whether the node is to
// renew its Lease.
func Alive(ctx context.Context, nc *nats.Conn, node bus.Node) (renew bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, node.Call(methodAlive), nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return false, errors.New("no server is there")
	}
	if err != nil {
		return false, err
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return false, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return a.Renew, nil
}
