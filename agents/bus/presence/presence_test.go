package presence

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// leases is a projection of Leases that tests put there.
type leases struct {
	live.Projection
	state *projections.State
}

func (l leases) View() projections.Reader { return l.state.View() }

func (l leases) put(node string, renewed time.Time) {
	raw := fmt.Sprintf(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":%q,"namespace":"kube-node-lease"},"spec":{"holderIdentity":%[1]q,"renewTime":%[2]q}}`,
		node, renewed.UTC().Format("2006-01-02T15:04:05.000000Z"))
	l.state.Put(projections.NewEntry(leaseOf(node), "u-"+node, 1, 1, []byte(raw)))
}

func renewTime(t *testing.T, e *projections.Entry) time.Time {
	t.Helper()
	var lease coordinationv1.Lease
	if err := json.Unmarshal(e.Raw, &lease); err != nil {
		t.Fatal(err)
	}
	if canonical, err := events.Canonical(e.Raw); err != nil || string(canonical) != string(e.Raw) {
		t.Errorf("the lease is not in canonical form: %s (%v)", e.Raw, err)
	}
	return lease.Spec.RenewTime.Time
}

// connections are a server's, and that of the node n1.
func connections(t testing.TB) (nc, as *nats.Conn, node bus.Node) {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err = s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	node, err = bus.NewNode("reprise", "n1")
	if err != nil {
		t.Fatal(err)
	}
	as, err = s.Connect(node.Inbox())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(as.Close)
	return nc, as, node
}

// TestHeardHereAndElsewhere has one server of two hear a node: both then show its
// Lease as renewed, and the node is told to renew it when that is due.
func TestHeardHereAndElsewhere(t *testing.T) {
	nc, as, node := connections(t)
	if _, err := Alive(t.Context(), as, node); err == nil || !strings.Contains(err.Error(), "no server is there") {
		t.Errorf("nobody is there: %v", err)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var passed atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(passed.Load())) }
	recorded := leases{state: projections.NewVolatileState()}
	var servers []*Presence
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for range 2 {
		p := New(recorded, 100*time.Second, now)
		hearing := make(chan struct{})
		go func() { ended <- p.Serve(ctx, nc, "reprise", func() { close(hearing) }) }()
		<-hearing
		servers = append(servers, p)
	}
	alive := func() bool {
		t.Helper()
		renew, err := Alive(t.Context(), as, node)
		if err != nil {
			t.Fatal(err)
		}
		return renew
	}
	if !alive() {
		t.Error("a node without a lease is not told to make one")
	}
	recorded.put("n1", now())
	passed.Store(int64(40 * time.Second))
	if alive() {
		t.Error("a lease is to be renewed that was renewed 40 seconds ago of 100")
	}
	for i, p := range servers {
		for deadline := time.Now().Add(30 * time.Second); p.lastHeard("n1").Before(now().Add(-telling)); {
			if time.Now().After(deadline) {
				t.Fatalf("server %d has not heard the node", i)
			}
			<-time.After(10 * time.Millisecond)
		}
		got := renewTime(t, p.Over(recorded).View().Get(leaseOf("n1")))
		if late := now().Sub(got); late < 0 || late > telling {
			t.Errorf("server %d shows the lease as renewed at %s, now is %s", i, got, now())
		}
		other := events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "shop", Name: "n1"}
		if e := p.Over(recorded).View().Get(other); e != nil {
			t.Errorf("a lease that is not there is %s", e.Raw)
		}
	}
	passed.Store(int64(51 * time.Second))
	if !alive() {
		t.Error("a lease is not to be renewed that was renewed 51 seconds ago of 100")
	}
	recorded.put("n1", now().Add(time.Second))
	if got := renewTime(t, servers[0].Over(recorded).View().Get(leaseOf("n1"))); !got.Equal(now().Add(time.Second)) {
		t.Errorf("a lease that was renewed after the node was heard shows %s", got)
	}
	cancel()
	for range servers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestLeaseWithoutRenewTime has somebody take the time out of a node's Lease, where
// it is optional: the Lease shows when the node was heard.
func TestLeaseWithoutRenewTime(t *testing.T) {
	recorded := leases{state: projections.NewVolatileState()}
	raw := `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"n1","namespace":"kube-node-lease"},"spec":{"holderIdentity":"n1"}}`
	recorded.state.Put(projections.NewEntry(leaseOf("n1"), "u-n1", 1, 1, []byte(raw)))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := New(recorded, 100*time.Second, func() time.Time { return now })
	show := func() *projections.Entry { return p.Over(recorded).View().Get(leaseOf("n1")) }
	if got := string(show().Raw); got != raw {
		t.Errorf("the lease of a node that was not heard is %s", got)
	}
	p.told([]byte(`["n1"]`))
	if got := renewTime(t, show()); !got.Equal(now.Add(-telling)) {
		t.Errorf("the lease shows %s, the node was heard at %s", got, now.Add(-telling))
	}
	if got := string(recorded.View().Get(leaseOf("n1")).Raw); got != raw {
		t.Errorf("the lease itself became %s", got)
	}
}

// A node of which note was taken is heard, here and elsewhere, though it has not called.
func TestNoted(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	here, elsewhere := New(leases{}, time.Minute, clock), New(leases{}, time.Minute, clock)
	here.Note("n1")
	if got := here.lastHeard("n1"); !got.Equal(now) {
		t.Errorf("it was heard at %s, now is %s", got, now)
	}
	elsewhere.told(here.tell())
	if got := elsewhere.lastHeard("n1"); !got.Equal(now.Add(-telling)) {
		t.Errorf("elsewhere it was heard at %s, now is %s", got, now)
	}
}

// A node that is gone does not stay in memory for ever.
func TestForgotten(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := New(leases{}, time.Minute, func() time.Time { return now })
	p.Note("gone")
	now = now.Add(forgotten)
	p.Note("there")
	p.forget()
	if got := p.lastHeard("gone"); !got.Equal(now.Add(-forgotten)) {
		t.Errorf("a node that was just not forgotten was heard at %s", got)
	}
	now = now.Add(time.Second)
	p.forget()
	if len(p.heard) != 1 || p.lastHeard("there").IsZero() {
		t.Errorf("what is left is %v", p.heard)
	}
}

// BenchmarkAlive is what a sign of life costs both sides.
func BenchmarkAlive(b *testing.B) {
	nc, as, node := connections(b)
	recorded := leases{state: projections.NewVolatileState()}
	recorded.put("n1", time.Now())
	hearing := make(chan struct{})
	go func() {
		_ = New(recorded, time.Hour, time.Now).Serve(b.Context(), nc, "reprise", func() { close(hearing) })
	}()
	<-hearing
	b.ReportAllocs()
	for b.Loop() {
		if renew, err := Alive(b.Context(), as, node); err != nil || renew {
			b.Fatal(renew, err)
		}
	}
}
