package jetstream_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// TestCredentialsTakeThePlaceOfEarlierOnes admits a credential of a name that is there:
// the connections that the earlier one opened end, and no others do. Nobody is admitted
// with the key of another.
func TestCredentialsTakeThePlaceOfEarlierOnes(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	server := connect(t, s)
	credentials, err := jetstream.OpenCredentials(t.Context(), s, server, jetstream.Config{}, func(c events.Credential) (jetstream.Permissions, error) {
		return jetstream.Permissions{Publish: []string{"of." + c.Nodes[0]}, Subscribe: []string{"to." + c.Nodes[0]}}, nil
	}, slog.New(slog.DiscardHandler))
	must(t, err)
	admit := func(name, node string, key nkeys.KeyPair) error {
		public, err := key.PublicKey()
		must(t, err)
		return credentials.Admit(t.Context(), events.Credential{Name: name, Key: public, Nodes: []string{node}})
	}
	dial := func(key nkeys.KeyPair) (*nats.Conn, error) {
		public, err := key.PublicKey()
		must(t, err)
		nc, err := jetstream.Connect("nats://"+s.Addr(), nats.Nkey(public, key.Sign))
		if err == nil {
			t.Cleanup(nc.Close)
		}
		return nc, err
	}
	var keys [3]nkeys.KeyPair
	for i := range keys {
		keys[i], err = nkeys.CreateUser()
		must(t, err)
	}
	first, second, another := keys[0], keys[1], keys[2]
	must(t, admit("a", "n1", first))
	must(t, admit("b", "n2", another))
	a, err := dial(first)
	must(t, err)
	b, err := dial(another)
	must(t, err)
	closed := a.StatusChanged(nats.CLOSED)

	if err := admit("a", "n1", another); err == nil || !strings.Contains(err.Error(), "is that of nodes.b") {
		t.Errorf("admitted with the key of another: %v", err)
	}
	openLog(t, s, false)
	subscribers, err := jetstream.OpenSubscribers(t.Context(), s, server, jetstream.Config{}, slog.New(slog.DiscardHandler))
	must(t, err)
	defer subscribers.Close()
	public, err := another.PublicKey()
	must(t, err)
	err = subscribers.Add(t.Context(), events.Subscriber{Name: "b", Key: public, Filters: []events.Filter{inShop}})
	if err == nil || !strings.Contains(err.Error(), "is that of nodes.b") {
		t.Errorf("a subscriber has the key of another: %v", err)
	}
	if all, err := subscribers.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("there are subscribers: %v, %v", all, err)
	}
	must(t, a.Flush())
	must(t, admit("a", "n1", second))
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("a connection by the earlier key lives on")
	}
	if _, err := dial(first); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the earlier key still opens: %v", err)
	}
	a, err = dial(second)
	must(t, err)

	// The same key may get other nodes, which it speaks for on a new connection.
	again := a.StatusChanged(nats.RECONNECTING)
	must(t, admit("a", "n3", second))
	select {
	case <-again:
	case <-time.After(10 * time.Second):
		t.Error("a connection for the earlier nodes lives on")
	}
	for name, nc := range map[string]*nats.Conn{"b": b, "the server": server} {
		if err := nc.Flush(); err != nil || nc.Stats().Reconnects != 0 {
			t.Errorf("%s was disconnected: %v", name, err)
		}
	}
}
