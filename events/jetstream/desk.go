package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	quick "github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

const (
	// inFlight is how many proposals of either line of a log a server considers at a time: enough
	// to fill the committer's largest batch several times.
	inFlight = 1024
	// mostOfOne is how many of them may be one node's. Each pod has one at a time, so that
	// a node never has as many unless it is out of its mind, and then others have room.
	mostOfOne = inFlight / 4
)

// drainTimeout is how long the end of serving waits for NATS.
const drainTimeout = 5 * time.Second

// desk takes proposals in the order in which they come and, since the committer of a log
// answers those of people, and those of agents, in about that order, waits for either one
// after the other.
type desk struct {
	to    events.Offerer
	heard func(node string) // told of nodes that propose, nil if nobody wants to know
	ctx   context.Context   // ends with the serving
	ended chan struct{}     // closed when nothing more comes
	// history and volatile have what waits for an answer.
	history, volatile waiting

	mu sync.Mutex
	of map[string]int // how many proposals of a node wait
}

// waiting is what waits for one committer, by the line in which it does.
type waiting struct{ people, agents chan pending }

func newWaiting() waiting {
	return waiting{make(chan pending, inFlight), make(chan pending, inFlight)}
}

// pending is a proposal that waits for its answer.
type pending struct {
	m      *nats.Msg
	node   string // who proposes it, if a node does
	answer func() (events.Receipt, error)
}

// ServeProposals hands what actors elsewhere propose to a proposer, until stop is
// called, which waits for the answers under way. It runs where the committer
// does: in the holder of its lease, while it is held. heard, which may be nil, is told at
// once of each node that proposes something which can be read, whatever comes of it, and the
// node is told that it was.
func ServeProposals(nc *nats.Conn, prefix string, to events.Offerer, heard func(node string)) (stop func(), err error) {
	d := &desk{
		to: to, heard: heard, ended: make(chan struct{}), of: map[string]int{},
		history: newWaiting(), volatile: newWaiting(),
	}
	var cancel context.CancelFunc
	d.ctx, cancel = context.WithCancel(context.Background())
	sub, err := nc.QueueSubscribe(prefix+".propose.*.*", "committer", d.take)
	if err == nil {
		// The subscription holds what waits for room: proposals are not dropped.
		err = errors.Join(sub.SetPendingLimits(-1, 256<<20), nc.Flush())
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("cannot take proposals: %w", err)
	}
	var busy sync.WaitGroup
	for _, w := range [...]waiting{d.history, d.volatile} {
		busy.Go(func() { d.answer(w.people) })
		busy.Go(func() { d.answer(w.agents) })
	}
	closed := sub.StatusChanged(nats.SubscriptionClosed)
	return func() {
		cancel()
		// What has come already is told that nobody is here. Draining fails only if
		// the connection is gone, and then nothing comes.
		if sub.Drain() == nil {
			select {
			case <-closed:
			case <-time.After(drainTimeout):
			}
		}
		close(d.ended)
		busy.Wait()
	}, nil
}

// take puts a proposal in the committer's line, or says why not.
func (d *desk) take(m *nats.Msg) {
	p, err := proposalOf(m)
	if err == nil && d.ctx.Err() != nil {
		err = events.ErrUnavailable
	}
	if err != nil {
		reply(m, answerOf(events.Receipt{}, err))
		return
	}
	node := ""
	if p.Actor.Kind == "node" {
		node = p.Actor.Name
	}
	if node != "" && d.heard != nil {
		d.heard(node)
	}
	if !d.enter(node) {
		d.reply(pending{m: m, node: node}, events.Receipt{}, fmt.Errorf("%d proposals of this node wait already: %w", mostOfOne, events.ErrUnavailable))
		return
	}
	answer, err := d.to.Offer(d.ctx, p)
	if err != nil {
		d.leave(node)
		d.reply(pending{m: m, node: node}, events.Receipt{}, err)
		return
	}
	select {
	case d.behind(&p) <- pending{m, node, answer}:
	case <-d.ended: // NATS did not drain in time: whoever proposed it is left uncertain
	}
}

// behind is whom a proposal waits behind.
func (d *desk) behind(p *events.Proposal) chan pending {
	w := d.history
	if p.Volatile() {
		w = d.volatile
	}
	if p.Awaited() {
		return w.people
	}
	return w.agents
}

// answer answers those who wait, one after the other, until nothing more comes and none is
// left.
func (d *desk) answer(all chan pending) {
	for {
		select {
		case p := <-all:
			d.settle(p)
		case <-d.ended:
			if len(all) == 0 {
				return
			}
		}
	}
}

func (d *desk) settle(p pending) {
	receipt, err := p.answer()
	d.leave(p.node)
	d.reply(p, receipt, err)
}

// reply answers a proposal that was offered, or refused a place.
func (d *desk) reply(p pending, receipt events.Receipt, err error) {
	a := answerOf(receipt, err)
	a.Heard = p.node != "" && d.heard != nil
	reply(p.m, a)
}

// enter says whether one more proposal of a node may wait.
func (d *desk) enter(node string) bool {
	if node == "" {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of[node] >= mostOfOne {
		return false
	}
	d.of[node]++
	return true
}

func (d *desk) leave(node string) {
	if node == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of[node]--; d.of[node] == 0 {
		delete(d.of, node)
	}
}

// proposalOf is what a message proposes, by whom its subject names.
func proposalOf(m *nats.Msg) (events.Proposal, error) {
	actor, ok := proposingActor(m.Subject)
	if !ok {
		return events.Proposal{}, fmt.Errorf("%s is no subject for proposals", m.Subject)
	}
	var p events.Proposal
	if err := quick.Unmarshal(m.Data, &p); err != nil {
		return events.Proposal{}, &events.RefusedError{Actor: actor, Reason: "the proposal cannot be read: " + err.Error()}
	}
	actor.Version = p.Actor.Version
	p.Actor = actor
	if actor.Kind != "api" && (p.User != "" || p.Audit != "") {
		return events.Proposal{}, &events.RefusedError{Actor: actor, Reason: "only the gate can speak for a user"}
	}
	return p, nil
}

func reply(m *nats.Msg, a answer) {
	// Whoever proposes names the subject of the answer, and we may publish on
	// all: without this an actor could have us write into the log, or delete it.
	if !strings.HasPrefix(m.Reply, nats.InboxPrefix) {
		return
	}
	body, err := json.Marshal(a)
	if err != nil {
		panic(fmt.Sprintf("an answer cannot be encoded: %v", err))
	}
	// If the answer is lost, the proposer's wait ends as uncertain.
	_ = m.Respond(body)
}
