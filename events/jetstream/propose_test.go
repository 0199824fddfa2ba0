package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// proposer answers as it is told, and keeps what it was asked.
type proposer struct {
	got     chan events.Proposal
	receipt events.Receipt
	err     error
}

func (p *proposer) Propose(_ context.Context, q events.Proposal) (events.Receipt, error) {
	p.got <- q
	return p.receipt, p.err
}

func (p *proposer) Offer(ctx context.Context, q events.Proposal) (func() (events.Receipt, error), error) {
	return func() (events.Receipt, error) { return p.Propose(ctx, q) }, nil
}

func connect(t testing.TB, s *jetstream.Server) *nats.Conn {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestProposals(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	nc := connect(t, s)
	node := events.Actor{Kind: "node", Name: "n1.example.com", Version: "v1"}
	client, err := jetstream.NewProposer(nc, "reprise", node)
	if err != nil {
		t.Fatal(err)
	}
	want := events.Proposal{
		Decision: events.Decision{
			Because: 4,
			Changes: []events.Change{{Type: "container.exited", Object: events.Ref{Resource: "pods", Namespace: "a", Name: "b"}, UID: "u", Data: []byte(`[{"a":"<&\u2028"}]`), Note: []byte("{}"), Optional: true}},
			Expect:  []events.Expectation{{Object: events.Ref{Resource: "pods", Namespace: "a", Name: "b"}, Sequence: 3}},
		},
		Actor: node, Basis: 5, Now: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	}
	if _, err := client.Propose(t.Context(), want); !errors.Is(err, events.ErrUnavailable) {
		t.Fatalf("nobody serves: %v", err)
	}
	committer := &proposer{got: make(chan events.Proposal, 1)}
	stop, err := jetstream.ServeProposals(connect(t, s), "reprise", committer, nil)
	if err != nil {
		t.Fatal(err)
	}
	ref := events.Ref{Resource: "pods", Name: "b"}
	for _, c := range []struct {
		receipt events.Receipt
		err     error
		same    func(error) bool
	}{
		{events.Receipt{First: 7, Last: 8}, nil, func(err error) bool { return err == nil }},
		{err: fmt.Errorf("x: %w", &events.ConflictError{Object: ref, Expected: 3, Actual: 4}), same: func(err error) bool {
			var e *events.ConflictError
			return errors.As(err, &e) && *e == events.ConflictError{Object: ref, Expected: 3, Actual: 4}
		}},
		{err: &events.RefusedError{Type: "a.b", Object: ref, Actor: node, Reason: "no", Unwieldy: true}, same: func(err error) bool {
			var e *events.RefusedError
			return errors.As(err, &e) && *e == events.RefusedError{Type: "a.b", Object: ref, Actor: node, Reason: "no", Unwieldy: true}
		}},
		{err: events.ErrUnavailable, same: func(err error) bool { return errors.Is(err, events.ErrUnavailable) }},
		{err: fmt.Errorf("y: %w", events.ErrUncertain), same: func(err error) bool {
			return errors.Is(err, events.ErrUncertain) && err.Error() == "y: "+events.ErrUncertain.Error()
		}},
		{err: errors.New("z"), same: func(err error) bool { return err != nil && err.Error() == "z" }},
	} {
		committer.receipt, committer.err = c.receipt, c.err
		receipt, err := client.Propose(t.Context(), want)
		if got := <-committer.got; !reflect.DeepEqual(got, want) {
			t.Errorf("arrived as\n%#v\nwas\n%#v", got, want)
		}
		if receipt != c.receipt || !c.same(err) {
			t.Errorf("got %v, %v; want %v, %v", receipt, err, c.receipt, c.err)
		}
	}
	bold := want
	bold.User = "admin"
	var refused *events.RefusedError
	if _, err := client.Propose(t.Context(), bold); !errors.As(err, &refused) {
		t.Errorf("a node speaks for a user: %v", err)
	}
	other := want
	other.Actor.Name = "n2"
	if _, err := client.Propose(t.Context(), other); err == nil {
		t.Error("one node proposes as another")
	}
	stop()
	if _, err := client.Propose(t.Context(), want); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
}

// A node that proposes is heard, whatever comes of that, and told so; others are not.
func TestANodeThatProposesIsHeard(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	committer := &proposer{got: make(chan events.Proposal, 1)}
	heard := make(chan string, 1)
	stop, err := jetstream.ServeProposals(connect(t, s), "reprise", committer, func(node string) { heard <- node })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ref := events.Ref{Resource: "pods", Name: "b"}
	for _, c := range []struct {
		actor events.Actor
		err   error
	}{
		{events.Actor{Kind: "node", Name: "n1"}, nil},
		{events.Actor{Kind: "node", Name: "n2"}, &events.ConflictError{Object: ref, Expected: 3, Actual: 4}},
		{events.Actor{Kind: "scheduler"}, nil},
	} {
		client, err := jetstream.NewProposer(connect(t, s), "reprise", c.actor)
		if err != nil {
			t.Fatal(err)
		}
		if at := client.Heard(); !at.IsZero() {
			t.Errorf("%s has proposed nothing, and was heard at %s", c.actor, at)
		}
		committer.err = c.err
		before := time.Now()
		if _, err := client.Propose(t.Context(), events.Proposal{Actor: c.actor}); (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", c.actor, err, c.err)
		}
		<-committer.got
		node := c.actor.Kind == "node"
		if at := client.Heard(); node != !at.IsZero() || node && (at.Before(before) || at.After(time.Now())) {
			t.Errorf("%s has proposed at %s, and was heard at %s", c.actor, before, at)
		}
		select {
		case name := <-heard:
			if !node || name != c.actor.Name {
				t.Errorf("%s has proposed, and %s was heard", c.actor, name)
			}
		default:
			if node {
				t.Errorf("%s has proposed, and was not heard", c.actor)
			}
		}
	}
}

// Where nobody takes note of nodes none is told so.
func TestANodeThatNobodyHears(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	stop, err := jetstream.ServeProposals(connect(t, s), "reprise", &proposer{got: make(chan events.Proposal, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	client, err := jetstream.NewProposer(connect(t, s), "reprise", events.Actor{Kind: "node", Name: "n1"})
	if err == nil {
		_, err = client.Propose(t.Context(), events.Proposal{Actor: events.Actor{Kind: "node", Name: "n1"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	if at := client.Heard(); !at.IsZero() {
		t.Errorf("it was heard at %s", at)
	}
}

// Whoever proposes cannot have the answer published where only a server may.
func TestAnswersGoToInboxes(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	nc := connect(t, s)
	elsewhere := make(chan *nats.Msg, 1)
	if _, err := nc.ChanSubscribe("reprise.core.pods.*.*", elsewhere); err != nil {
		t.Fatal(err)
	}
	committer := &proposer{got: make(chan events.Proposal, 2)}
	stop, err := jetstream.ServeProposals(connect(t, s), "reprise", committer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("reprise.propose.node.n1", "reprise.core.pods.shop.exited", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	<-committer.got
	stop() // waits for the answers under way
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-elsewhere:
		t.Errorf("a server publishes on %s what is not its own", m.Subject)
	default:
	}
}

func TestLostAnswerIsUncertain(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	nc := connect(t, s)
	asked := make(chan *nats.Msg, 1)
	if _, err := nc.ChanSubscribe("reprise.propose.*.*", asked); err != nil {
		t.Fatal(err)
	}
	client, err := jetstream.NewProposer(nc, "reprise", events.Actor{Kind: "scheduler"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := client.Propose(ctx, events.Proposal{Actor: events.Actor{Kind: "scheduler"}}); !errors.Is(err, events.ErrUncertain) {
		t.Errorf("got %v", err)
	}
}

// TestClosedConnection: who closes it while he waits for an answer does not know; who proposes
// after that does.
func TestClosedConnection(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	asked := make(chan *nats.Msg, 1)
	if _, err := connect(t, s).ChanSubscribe("reprise.propose.*.*", asked); err != nil {
		t.Fatal(err)
	}
	nc := connect(t, s)
	client, err := jetstream.NewProposer(nc, "reprise", events.Actor{Kind: "scheduler"})
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-asked; nc.Close() }()
	p := events.Proposal{Actor: events.Actor{Kind: "scheduler"}}
	if _, err := client.Propose(t.Context(), p); !errors.Is(err, events.ErrUncertain) || errors.Is(err, events.ErrUnavailable) {
		t.Errorf("closed while it waits: %v", err)
	}
	if _, err := client.Propose(t.Context(), p); !errors.Is(err, events.ErrUnavailable) || errors.Is(err, events.ErrUncertain) {
		t.Errorf("closed before: %v", err)
	}
}

// A server relays what all its actors propose.
func TestRelay(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	committer := &proposer{got: make(chan events.Proposal, 1), receipt: events.Receipt{First: 9, Last: 9}}
	stop, err := jetstream.ServeProposals(connect(t, s), "reprise", committer, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	relay := jetstream.NewRelay(connect(t, s), "reprise")
	for _, actor := range []events.Actor{{Kind: "scheduler"}, {Kind: "controller", Name: "deployment"}, {Kind: "node", Name: "n1"}} {
		if receipt, err := relay.Propose(t.Context(), events.Proposal{Actor: actor}); err != nil || receipt != committer.receipt {
			t.Errorf("relayed for %s: %v, %v", actor, receipt, err)
		}
		if got := <-committer.got; got.Actor != actor {
			t.Errorf("%s arrives as %s", actor, got.Actor)
		}
		answer, err := relay.Offer(t.Context(), events.Proposal{Actor: actor, Basis: 5})
		if err != nil {
			t.Fatal(err)
		}
		if got := <-committer.got; got.Basis != 5 {
			t.Errorf("what %s offered arrives as %+v", actor, got)
		}
		if receipt, err := answer(); err != nil || receipt != committer.receipt {
			t.Errorf("offered by %s: %v, %v", actor, receipt, err)
		}
	}
}
