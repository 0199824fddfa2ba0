package calls

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

func TestCalls(t *testing.T) {
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	node, err := bus.NewNode("reprise", "n1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	// The node may do no more than a node may.
	publish, subscribe := node.Permissions()
	seed, err := s.AddUser("node.n1", jetstream.Permissions{Publish: publish, Subscribe: subscribe})
	if err != nil {
		t.Fatal(err)
	}
	key, err := jetstream.WithSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	own, err := jetstream.Connect("nats://"+s.Addr(), key, node.Inbox())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	proposals(t, nc, own)
	c := NewClient(own, node)
	if err := c.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("nobody serves: %v", err)
	}
	stop, err := Serve(nc, "reprise", func(_ context.Context, node, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
		switch account {
		case "forbidden":
			return nil, apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, account, errors.New("no such pod here"))
		case "broken":
			return nil, errors.New("broken")
		}
		out := r.DeepCopy()
		out.Status.Token = node + "/" + namespace + "/" + account
		return out, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	strangers(t, nc, own, node)
	want := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"a"}}}
	got, err := c.Token(t.Context(), "shop", "default", want)
	if err != nil || got.Status.Token != "n1.example.com/shop/default" || got.Spec.Audiences[0] != "a" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := c.Token(t.Context(), "shop", "forbidden", want); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Token(t.Context(), "shop", "broken", want); err == nil || !strings.HasSuffix(err.Error(), "broken") {
		t.Errorf("got %v", err)
	}
	stop()
	if err := c.Ping(t.Context()); err == nil {
		t.Error("it is served after the end")
	}
}

// strangers checks that a node cannot have its answers sent anywhere but to itself:
// a server may publish into the log, and the node may not.
func strangers(t *testing.T, server, own *nats.Conn, node bus.Node) {
	t.Helper()
	elsewhere := make(chan *nats.Msg, 8)
	for _, subject := range []string{"reprise.>", "$JS.>", "_INBOX.>"} {
		sub, err := server.ChanSubscribe(subject, elsewhere)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	for _, reply := range []string{"reprise.core.pods.shop.exited", "$JS.API.STREAM.DELETE.REPRISE", "_INBOX.reprise.node.n2.x", "_INBOX.reprise.node.n1_example_comx.y"} {
		if err := own.PublishRequest(node.Call(methodPing), reply, nil); err != nil {
			t.Fatal(err)
		}
	}
	// One that is answered comes after them.
	if err := NewClient(own, node).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if m := <-elsewhere; !strings.HasPrefix(m.Subject, "_INBOX.reprise.node.n1_example_com.") {
		t.Errorf("a node has a server publish on %s", m.Subject)
	}
}

// proposals checks that the node's permissions let it propose as itself, and as
// nobody else.
func proposals(t *testing.T, server, own *nats.Conn) {
	stop, err := jetstream.ServeProposals(server, "reprise", accept{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for name, want := range map[string]bool{"n1.example.com": true, "n2": false} {
		actor := events.Actor{Kind: "node", Name: name}
		p, err := jetstream.NewProposer(own, "reprise", actor)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if !want {
			own.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { cancel() })
		}
		if _, err := p.Propose(ctx, events.Proposal{Actor: actor}); (err == nil) != want {
			t.Errorf("proposing as %s: %v", actor, err)
		}
		cancel()
	}
}

type accept struct{}

func (accept) Offer(context.Context, events.Proposal) (func() (events.Receipt, error), error) {
	return func() (events.Receipt, error) { return events.Receipt{First: 1, Last: 1}, nil }, nil
}

func (accept) Propose(context.Context, events.Proposal) (events.Receipt, error) {
	return events.Receipt{First: 1, Last: 1}, nil
}
