package jetstream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// line is an Offerer that answers when it is told to.
type line struct {
	offered chan events.Proposal
	answers chan struct{} // closed when there are answers
}

func (l line) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	answer, err := l.Offer(ctx, p)
	if err != nil {
		return events.Receipt{}, err
	}
	return answer()
}

func (l line) Offer(_ context.Context, p events.Proposal) (func() (events.Receipt, error), error) {
	l.offered <- p
	return func() (events.Receipt, error) {
		<-l.answers
		return events.Receipt{First: p.Basis, Last: p.Basis}, nil
	}, nil
}

// A node that proposes without end leaves room for all others, and its own first proposals
// are answered in their order.
func TestOneNodeLeavesRoom(t *testing.T) {
	const most, more = 256, 10
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	to := line{make(chan events.Proposal, most+1), make(chan struct{})}
	stop, err := jetstream.ServeProposals(connect(t, s), "reprise", to, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	nc := connect(t, s)
	inbox := nc.NewInbox()
	answers := make(chan *nats.Msg, most+more+1)
	if _, err := nc.ChanSubscribe(inbox+".*", answers); err != nil {
		t.Fatal(err)
	}
	send := func(node string, basis int) {
		t.Helper()
		if err := nc.PublishRequest("reprise.propose.node."+node, fmt.Sprintf("%s.%s-%d", inbox, node, basis), fmt.Appendf(nil, `{"Basis":%d}`, basis)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range most + more {
		send("wild", i)
	}
	for i := range more {
		m := <-answers
		if want := fmt.Sprintf("wild-%d", most+i); !strings.HasSuffix(m.Subject, want) || !strings.Contains(string(m.Data), "proposals of this node wait already") {
			t.Fatalf("%s was answered %s, want %s refused", m.Subject, m.Data, want)
		}
		if !strings.Contains(string(m.Data), `"Heard":true`) {
			t.Fatalf("a node that has no room is there, and was told %s", m.Data)
		}
	}
	send("calm", 7)
	for i := range most {
		if p := <-to.offered; p.Actor.Name != "wild" || p.Basis != uint64(i) {
			t.Fatalf("%d by %s was offered, want %d", p.Basis, p.Actor.Name, i)
		}
	}
	if p := <-to.offered; p.Actor.Name != "calm" {
		t.Fatalf("%s was offered", p.Actor.Name)
	}
	close(to.answers)
	for i := range most + 1 {
		m, want := <-answers, fmt.Sprintf("wild-%d", i)
		if i == most {
			want = "calm-7"
		}
		var a struct{ Receipt events.Receipt }
		if err := json.Unmarshal(m.Data, &a); err != nil || !strings.HasSuffix(m.Subject, "."+want) || fmt.Sprint(a.Receipt.Last) != want[5:] {
			t.Fatalf("%s was answered %s (%v), want %s", m.Subject, m.Data, err, want)
		}
	}
	send("wild", 1)
	if m := <-answers; !strings.HasSuffix(m.Subject, "wild-1") || strings.Contains(string(m.Data), "wait already") {
		t.Errorf("later it is told %s", m.Data)
	}
}

// slow is an Offerer that answers people at once, and agents when it is told to.
type slow struct {
	line
	agents chan events.Proposal
}

func (s slow) Offer(ctx context.Context, p events.Proposal) (func() (events.Receipt, error), error) {
	if !p.Awaited() {
		s.agents <- p
		return s.line.Offer(ctx, p)
	}
	return func() (events.Receipt, error) { return events.Receipt{First: 9, Last: 9}, nil }, nil
}

// The committer answers people before agents that came before them, and so does who waits
// for it on behalf of another server's.
func TestPeopleAreNotAnsweredBehindAgents(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	to := slow{line{make(chan events.Proposal, 4), make(chan struct{})}, make(chan events.Proposal, 4)}
	stop, err := jetstream.ServeProposals(connect(t, s), "reprise", to, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	defer close(to.answers)
	relay := jetstream.NewRelay(connect(t, s), "reprise")
	for _, resource := range []string{"pods", "events"} {
		p := events.Proposal{Decision: events.Decision{Changes: []events.Change{{Object: events.Ref{Resource: resource, Namespace: "a", Name: "b"}}}}}
		for _, because := range []uint64{3, 0} {
			p.Because, p.Actor = because, events.Actor{Kind: "api", Name: "s1"}
			if because == 0 {
				p.Actor = events.Actor{Kind: "node", Name: "n1"}
			}
			if _, err := relay.Offer(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			<-to.agents
		}
		p.Actor = events.Actor{Kind: "api", Name: "s1"}
		if receipt, err := relay.Propose(t.Context(), p); err != nil || receipt.Last != 9 {
			t.Errorf("a person who changes %s is told %v (%v)", resource, receipt, err)
		}
	}
}
