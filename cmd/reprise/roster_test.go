package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/agents/bus/roster"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// rosterServer is a NATS server that admits nodes.
type rosterServer struct {
	*jetstream.Server
	nc *nats.Conn
}

func startRoster(t *testing.T, dir string) rosterServer {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	p := &controlPlane{server: s, nats: nc, log: slog.New(slog.DiscardHandler)}
	if err := p.serveRoster(t.Context()); err != nil {
		t.Fatal(err)
	}
	return rosterServer{s, nc}
}

// as connects with a key, as nodes do.
func (s rosterServer) as(t *testing.T, key nkeys.KeyPair, name string, denied chan error) (*nats.Conn, error) {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := bus.NewNodes(subjectPrefix, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+s.Addr(), nats.Nkey(public, key.Sign), nodes.Inbox(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		denied <- err
	}))
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

func newKey(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

// TestNodesSpeakOfThemselves admits two nodes by one credential: their connection
// may say for them what nodes say, hear what they hear, and nothing else; also after
// the server has been started again, and not once another key has its place.
func TestNodesSpeakOfThemselves(t *testing.T) {
	dir := t.TempDir()
	s := startRoster(t, dir)
	key, public := newKey(t)
	pair := events.Credential{Name: "pair", Key: public, Nodes: []string{"n1", "n.2"}}
	if err := roster.Admit(t.Context(), s.nc, subjectPrefix, pair); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		checkPair(t, s, key)
		s.nc.Close()
		s.Shutdown()
		s = startRoster(t, dir)
	}
	_, pair.Key = newKey(t)
	if err := roster.Admit(t.Context(), s.nc, subjectPrefix, pair); err != nil {
		t.Fatal(err)
	}
	if _, err := s.as(t, key, "pair", nil); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a key whose place another has taken connects: %v", err)
	}
}

func checkPair(t *testing.T, s rosterServer, key nkeys.KeyPair) {
	t.Helper()
	denied := make(chan error, 16)
	nc, err := s.as(t, key, "pair", denied)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	any := bus.AnyNode(subjectPrefix)
	sub, err := s.nc.Subscribe(any.Call("ping"), func(m *nats.Msg) { _ = bus.Answer(m, []byte(m.Subject)) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, name := range []string{"n1", "n.2"} {
		node, err := bus.NewNode(subjectPrefix, name)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := nc.RequestWithContext(ctx, node.Call("ping"), nil); err != nil || string(m.Data) != node.Call("ping") {
			t.Errorf("%s is not answered: %v", name, err)
		}
		if _, err := nc.SubscribeSync(node.Feed()); err != nil || nc.Flush() != nil || nc.LastError() != nil {
			t.Errorf("%s cannot hear its feed: %v %v", name, err, nc.LastError())
		}
	}
	other, err := bus.NewNode(subjectPrefix, "n3")
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func() error{
		"speaking for another":   func() error { return nc.Publish(subjectPrefix+".propose.node.n3", nil) },
		"calling for another":    func() error { return nc.Publish(other.Call("ping"), nil) },
		"speaking for all":       func() error { return nc.Publish(subjectPrefix+".propose.api.-", nil) },
		"hearing another's feed": func() error { _, err := nc.SubscribeSync(other.Feed()); return err },
		"hearing all feeds":      func() error { _, err := nc.SubscribeSync(any.Feed()); return err },
		"hearing all tunnels":    func() error { _, err := nc.SubscribeSync(any.Down(">")); return err },
		"hearing all calls":      func() error { _, err := nc.SubscribeSync(any.Call(">")); return err },
		"hearing the whole bus":  func() error { _, err := nc.SubscribeSync(subjectPrefix + "-bus.>"); return err },
		"hearing all of a kind":  func() error { _, err := nc.SubscribeSync(subjectPrefix + "-bus.feed.>"); return err },
		"hearing another":        func() error { _, err := nc.SubscribeSync(subjectPrefix + "-bus.*.n3.>"); return err },
		"hearing the log":        func() error { _, err := nc.SubscribeSync(subjectPrefix + ".core.pods.n1.bound"); return err },
		"feeding another":        func() error { return nc.Publish(other.Feed(), nil) },
		"a tunnel to another":    func() error { return nc.Publish(other.Down(""), nil) },
		"a tunnel of another":    func() error { return nc.Publish(other.Up("x"), nil) },
		"admitting nodes":        func() error { return nc.Publish(subjectPrefix+"-roster.admit", nil) },
	} {
		if err := try(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-ctx.Done():
			t.Errorf("%s is allowed", what)
		}
	}
}

func TestRosterRefusesNonsense(t *testing.T) {
	s := startRoster(t, t.TempDir())
	_, public := newKey(t)
	for want, c := range map[string]events.Credential{
		"not the public key":   {Name: "a", Key: "UABC", Nodes: []string{"n1"}},
		"names no node":        {Name: "a", Key: public},
		"no name of a node":    {Name: "a", Key: public, Nodes: []string{"*"}},
		"share a connection":   {Name: "a.>", Key: public, Nodes: []string{"n1"}},
		"\"\" is no name of a": {Key: public, Nodes: []string{"n1"}},
	} {
		if err := roster.Admit(t.Context(), s.nc, subjectPrefix, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}
