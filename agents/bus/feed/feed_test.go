package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/projectionstest"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// cluster is a log, a projection of it, and NATS.
type cluster struct {
	t       *testing.T
	history *projectionstest.History
	log     events.Log
	live    *live.Live
	nats    *jetstream.Server
	node    bus.Node
	alive   func(node string) (renew bool)
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, history: projectionstest.NewHistory(), log: schematest.NewLog(t)}
	var err error
	if c.live, err = live.Start(t.Context(), c.log, live.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.live.Close() })
	if c.nats, err = jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.nats.Shutdown)
	if c.node, err = bus.NewNode("reprise", "n1"); err != nil {
		t.Fatal(err)
	}
	return c
}

// serve feeds nodes until the returned function is called.
func (c *cluster) serve() (stop func()) {
	nc, err := c.nats.Connect()
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Serve(ctx, nc, "reprise", c.live, slog.New(slog.DiscardHandler), c.alive, func() { close(ready) })
	}()
	<-ready
	return func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
		nc.Close()
	}
}

// join connects as the node would, over TCP and with no more than its
// permissions.
func (c *cluster) join() (*Mirror, *nats.Conn) {
	publish, subscribe := c.node.Permissions()
	seed, err := c.nats.AddUser("node.n1", jetstream.Permissions{Publish: publish, Subscribe: subscribe})
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := jetstream.WithSeed(seed)
	if err != nil {
		c.t.Fatal(err)
	}
	nc, err := jetstream.Connect("nats://"+c.nats.Addr(), key, c.node.Inbox(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		c.t.Errorf("the node's connection: %v", err)
	}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	m, err := Follow(c.t.Context(), nc, c.node, Options{Every: 50 * time.Millisecond})
	if err != nil {
		c.t.Fatal(err)
	}
	return m, nc
}

// append writes what history has gained to the log.
func (c *cluster) append() uint64 {
	last, err := c.log.Last(c.t.Context())
	if err == nil {
		last, err = c.log.Append(c.t.Context(), last, c.history.Events[last:])
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return last
}

func (c *cluster) pod(name, node, secret string) {
	c.history.Create(projectionstest.Pod("shop", name), fmt.Sprintf(`{"kind":"Pod","metadata":{"name":%q,"namespace":"shop"},"spec":{"nodeName":%q,"containers":[{"name":"c","envFrom":[{"secretRef":{"name":%q}}]}]}}`, name, node, secret))
}

func (c *cluster) secret(name string) {
	c.history.Create(secret(name), fmt.Sprintf(`{"kind":"Secret","metadata":{"name":%q,"namespace":"shop"},"data":{}}`, name))
}

func secret(name string) events.Ref {
	return events.Ref{Resource: "secrets", Namespace: "shop", Name: name}
}

// sees waits until the mirror is at a sequence and compares what it has.
func sees(t *testing.T, m *Mirror, sequence uint64, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := m.Wait(ctx, sequence); err != nil {
		t.Fatalf("the mirror stays at %d: %v", m.View().Sequence(), err)
	}
	if got := contents(m.View()); !slices.Equal(got, want) {
		t.Errorf("at %d the node sees %q, want %q", sequence, got, want)
	}
}

func contents(v projections.Reader) []string {
	var out []string
	for r := range v.Resources() {
		for e := range v.List(r.Group, r.Resource, "") {
			out = append(out, e.Ref.String())
		}
	}
	return out
}

func TestFeed(t *testing.T) {
	c := newCluster(t)
	stop := c.serve()
	c.pod("mine", "n1", "password")
	c.pod("other", "n2", "foreign")
	c.secret("password")
	c.secret("foreign")
	c.secret("unused")
	at := c.append()
	m, _ := c.join()
	sees(t, m, at, "pods/shop/mine", "secrets/shop/password")
	if e := m.View().Get(secret("password")); e.Sequence != 3 || e.Created != 3 || string(e.Raw) != string(c.live.View().Get(secret("password")).Raw) || e.UID == "" {
		t.Errorf("not as it was: %+v", e)
	}
	changes, err := m.Changes(t.Context(), m.View().Sequence())
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of this concerns the node.
	c.history.Update(secret("foreign"), `[{"op":"add","path":"/data/a","value":"b"}]`)
	sees(t, m, c.append(), "pods/shop/mine", "secrets/shop/password")
	// A pod comes, and brings what it refers to.
	c.pod("new", "n1", "unused")
	c.history.Update(secret("password"), `[{"op":"add","path":"/data/a","value":"b"}]`)
	sees(t, m, c.append(), "pods/shop/mine", "pods/shop/new", "secrets/shop/password", "secrets/shop/unused")
	var got []string
	for len(got) < 3 {
		batch, err := changes.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range batch {
			got = append(got, fmt.Sprint(change.Entry().Ref, " ", change.Event.Sequence, " ", change.Before != nil))
		}
	}
	if want := []string{"pods/shop/new 7 false", "secrets/shop/password 8 true", "secrets/shop/unused 5 false"}; !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
	// And one goes, with what only it referred to.
	c.history.Delete(projectionstest.Pod("shop", "mine"))
	at = c.append()
	sees(t, m, at, "pods/shop/new", "secrets/shop/unused")
	// The server is gone, and another feeds the node from where it is.
	stop()
	c.history.Delete(projectionstest.Pod("shop", "new"))
	c.pod("last", "n1", "password")
	at = c.append()
	if err := c.live.Wait(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	defer c.serve()()
	sees(t, m, at, "pods/shop/last", "secrets/shop/password")
}

func TestLostMessagesAreNoticed(t *testing.T) {
	c := newCluster(t)
	defer c.serve()()
	m, nc := c.join()
	server, err := c.nats.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	epoch := func() string {
		sub, err := server.SubscribeSync(c.node.Call("feed.>"))
		if err != nil {
			t.Fatal(err)
		}
		msg, err := sub.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = sub.Unsubscribe()
		var asked call
		if err := json.Unmarshal(msg.Data, &asked); err != nil {
			t.Fatal(err)
		}
		return asked.Epoch
	}
	first := epoch()
	// As if messages 2 to 8 had been dropped on the way.
	if err := server.Publish(c.node.Feed(), encode(message{Epoch: first, Number: 9, Sequence: 99, Removes: []ref{{Resource: "pods"}}})); err != nil {
		t.Fatal(err)
	}
	c.pod("mine", "n1", "x")
	sees(t, m, c.append(), "pods/shop/mine")
	for epoch() == first {
	}
	// Over a lost connection it begins anew too.
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	c.pod("second", "n1", "x")
	sees(t, m, c.append(), "pods/shop/mine", "pods/shop/second")
}

// What waits to be applied takes no room from a snapshot, and a snapshot may be larger
// than the room there is.
func TestSnapshotsFindRoom(t *testing.T) {
	c := newCluster(t)
	nc, err := c.nats.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	f := newFollower(nc, c.node, Options{Log: slog.New(slog.DiscardHandler)}, 1)
	f.in <- &nats.Msg{Data: []byte("of an older subscription")}
	if _, err := nc.ChanSubscribe(c.node.Feed(), f.in); err != nil {
		t.Fatal(err)
	}
	const messages = 5
	if _, err := nc.Subscribe(c.node.Call("feed"), func(m *nats.Msg) {
		var asked call
		err := json.Unmarshal(m.Data, &asked)
		for i := uint64(1); i <= messages && err == nil; i++ {
			// The next one comes when this one is taken, and then the answer.
			if err = nc.Publish(c.node.Feed(), message{Epoch: asked.Epoch, Number: i, Sequence: i}.appendTo(nil)); err == nil {
				err = f.mirror.Wait(t.Context(), i)
			}
		}
		if err == nil {
			err = m.Respond(encode(answer{Server: "s", Number: messages, Sequence: messages}))
		}
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := f.snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := f.mirror.View().Sequence(); at != messages {
		t.Errorf("the mirror is at %d, want %d", at, messages)
	}
}

func TestLargeSnapshotsAreSplit(t *testing.T) {
	c := newCluster(t)
	defer c.serve()()
	var want []string
	for i := range 40 {
		name := fmt.Sprintf("p%02d", i)
		c.history.Create(projectionstest.Pod("shop", name), fmt.Sprintf(`{"kind":"Pod","metadata":{"name":%q,"namespace":"shop","annotations":{"a":"%0100000d"}},"spec":{"nodeName":"n1","containers":[{"name":"c"}]}}`, name, 7))
		want = append(want, "pods/shop/"+name)
	}
	at := c.append()
	m, _ := c.join()
	sees(t, m, at, want...)
}

func TestTheFeedEnds(t *testing.T) {
	c := newCluster(t)
	defer c.serve()()
	for what, end := range map[string]func(context.CancelFunc, *nats.Conn){
		"with its context":    func(cancel context.CancelFunc, _ *nats.Conn) { cancel() },
		"with its connection": func(_ context.CancelFunc, nc *nats.Conn) { nc.Close() },
	} {
		_, nc := c.join()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m, err := Follow(ctx, nc, c.node, Options{})
		if err != nil {
			t.Fatal(err)
		}
		changes, err := m.Changes(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		end(cancel, nc)
		if _, err := changes.Next(t.Context()); err == nil {
			t.Errorf("%s: changes go on", what)
		}
		if err := m.Wait(t.Context(), 99); err == nil {
			t.Errorf("%s: waiting goes on", what)
		}
	}
}
