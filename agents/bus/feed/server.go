// Package feed tells each node what it may know, and nothing else: its pods, what
// they refer to, and what every node needs. A server runs Serve over its
// projection; a node calls Follow and gets a live.Projection of its share of the
// cluster.
//
// A feed is a snapshot as of a sequence and then what changed, as numbered
// messages of core NATS. NATS may lose some: the node notices by the numbers, or
// by asking how far it should be, and begins anew with a snapshot. The server
// keeps no state that matters; a node whose server is gone is fed by another.
package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// forgotten is how long a node that does not ask how far it is goes on being fed.
const forgotten = time.Minute

// server feeds the nodes that have asked it to. Its state belongs to the goroutine
// of run.
type server struct {
	nc         *nats.Conn
	prefix, id string
	projection live.Projection
	log        *slog.Logger
	alive      func(node string) (renew bool)
	audience   *audience
	sessions   map[string]*session
	do         chan func()         // what others want done on the goroutine
	asking     map[string]*session // those in which somebody waits
	sent       []byte              // the memory of the last message: the connection copies it
}

// session is one node's feed.
type session struct {
	epoch   string
	subject string
	number  uint64
	heard   time.Time
	waiting []waiting
}

// waiting is a question how far the node is, to be answered when the feed has got
// to a sequence.
type waiting struct {
	sequence uint64
	until    time.Time
	answer   func(answer)
}

// Serve feeds nodes from a projection until ctx ends, or the projection fails.
// alive, which may be nil, is told which nodes are there, and says whether they are to
// renew their Leases. ready, which may be nil, is called when nodes can ask.
func Serve(ctx context.Context, nc *nats.Conn, prefix string, p live.Projection, log *slog.Logger, alive func(node string) (renew bool), ready func()) error {
	s := &server{
		nc: nc, prefix: prefix, id: nuid.Next(), projection: p, log: log, alive: alive,
		audience: newAudience(), sessions: map[string]*session{}, asking: map[string]*session{}, do: make(chan func()),
	}
	ctx, cancel := context.WithCancel(ctx)
	var busy sync.WaitGroup
	defer busy.Wait()
	defer cancel()
	// A node that asks when the server is gone is told so at once. It fails only if the
	// connection is gone, and then nodes are told too.
	defer func() { _ = nc.FlushTimeout(time.Second) }()
	each := bus.AnyNode(prefix)
	for subject, take := range map[string]func(context.Context, *nats.Msg, *sync.WaitGroup){
		each.Call("feed"): s.takeBegin, each.Call("feed." + s.id): s.takeProgress,
	} {
		sub, err := nc.QueueSubscribe(subject, "feed", func(m *nats.Msg) { take(ctx, m, &busy) })
		if err != nil {
			return fmt.Errorf("cannot serve feeds: %w", err)
		}
		// It fails only if the connection is gone, and then nothing comes.
		defer func() { _ = sub.Unsubscribe() }()
	}
	if err := nc.Flush(); err != nil {
		return fmt.Errorf("cannot serve feeds: %w", err)
	}
	if ready != nil {
		ready()
	}
	return s.run(ctx, &busy)
}

func (s *server) takeBegin(ctx context.Context, m *nats.Msg, busy *sync.WaitGroup) {
	if node, c, ok := read(m); ok {
		busy.Go(func() { reply(m, s.begin(ctx, node, c)) })
	}
}

// takeProgress takes the question that nodes ask again and again. Most wait for nothing, and
// need no goroutine unless run is busy. It never waits itself, and hears that the node is there
// before all else: a feed that is slow must not make a node look lost, nor those behind it.
func (s *server) takeProgress(ctx context.Context, m *nats.Msg, busy *sync.WaitGroup) {
	node, c, ok := read(m)
	if !ok {
		return
	}
	heard := c.Alive && s.alive != nil
	renew := heard && s.alive(node)
	respond := func(a answer) {
		a.Heard, a.Renew = heard, renew
		reply(m, a)
	}
	if c.Sequence > 0 {
		busy.Go(func() { respond(s.progress(ctx, node, c)) })
		return
	}
	say := func() { respond(s.howFar(node, c)) }
	select {
	case s.do <- say:
		return
	default:
	}
	busy.Go(func() {
		select {
		case s.do <- say:
		case <-ctx.Done():
			respond(answer{Error: "the server is shutting down"})
		}
	})
}

// read reads a node's call, and answers those that cannot be read.
func read(m *nats.Msg) (node string, c call, ok bool) {
	node, ok = bus.Caller(m.Subject)
	if err := json.Unmarshal(m.Data, &c); err != nil || !ok {
		reply(m, answer{Error: "the request cannot be read"})
		return "", call{}, false
	}
	return node, c, true
}

// reply answers a call. If the answer is lost, the node asks again.
func reply(m *nats.Msg, a answer) { _ = bus.Answer(m, encode(a)) }

// run feeds.
func (s *server) run(ctx context.Context, busy *sync.WaitGroup) error {
	batches := make(chan []projections.Change)
	failed := make(chan error, 1)
	start := s.projection.View().Sequence()
	s.audience.folded = start
	busy.Go(func() { failed <- s.pump(ctx, start, batches) })
	tick := time.NewTicker(forgotten / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("cannot feed nodes: %w", err)
		case f := <-s.do:
			f()
		case changes := <-batches:
			s.fold(changes)
		case now := <-tick.C:
			for node, session := range s.sessions {
				if now.Sub(session.heard) > forgotten {
					s.end(node)
				} else {
					s.answer(node, session)
				}
			}
		}
	}
}

// pump hands over the projection's changes. A nil batch says that some were
// missed.
func (s *server) pump(ctx context.Context, after uint64, to chan<- []projections.Change) error {
	changes, err := s.projection.Changes(ctx, after)
	for {
		var batch []projections.Change
		if err == nil {
			batch, err = changes.Next(ctx)
		}
		if errors.Is(err, live.ErrTooOld) {
			batch = nil
			changes, err = s.projection.Changes(ctx, s.projection.View().Sequence())
		}
		if err != nil {
			return err
		}
		select {
		case to <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *server) fold(changes []projections.Change) {
	view := s.projection.View()
	if changes == nil {
		s.log.Warn("the feed of nodes fell behind; they get new snapshots", "nodes", len(s.sessions))
		s.audience.folded = view.Sequence()
		for node, session := range s.sessions {
			s.publish(session, split(s.audience.join(view, node, s.audience.members[node].network), view.Sequence(), true))
		}
	} else {
		for node, d := range s.audience.fold(view, changes) {
			s.publish(s.sessions[node], split(d, s.audience.told(node), false))
		}
	}
	for node, session := range s.asking {
		s.answer(node, session)
	}
}

// begin starts a node's feed anew.
func (s *server) begin(ctx context.Context, node string, c call) answer {
	at, err := bus.NewNode(s.prefix, node)
	if err == nil {
		err = s.reach(ctx, c.Sequence)
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	return s.ask(ctx, func(reply func(answer)) {
		s.end(node)
		session := &session{epoch: c.Epoch, subject: at.Feed(), heard: time.Now()}
		s.sessions[node] = session
		view := s.projection.View()
		s.publish(session, split(s.audience.join(view, node, c.Network), view.Sequence(), true))
		reply(answer{Server: s.id, Number: session.number, Sequence: view.Sequence()})
	})
}

// reach waits until the projection has come to a sequence, as long as who asks does. A node
// may know of one that is not there: the log was restored to before it, or the node is hostile.
func (s *server) reach(ctx context.Context, sequence uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New(notSoFar))
	defer cancel()
	if err := s.projection.Wait(ctx, sequence); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("cannot wait for sequence %d: %w", sequence, err)
	}
	return nil
}

// notSoFar is what a node is told whose feed has not got to where it asked for in time.
const notSoFar = "the projection has not come that far"

// progress says how far a node's feed is, once it is as far as asked for.
func (s *server) progress(ctx context.Context, node string, c call) answer {
	if err := s.reach(ctx, c.Sequence); err != nil {
		return answer{Error: err.Error()}
	}
	return s.ask(ctx, func(reply func(answer)) {
		session := s.sessions[node]
		if session == nil || session.epoch != c.Epoch {
			reply(answer{Unknown: true})
			return
		}
		session.heard = time.Now()
		session.waiting = append(session.waiting, waiting{c.Sequence, time.Now().Add(patience), reply})
		s.answer(node, session)
	})
}

// howFar says how far a node's feed is. It is called on run's goroutine.
func (s *server) howFar(node string, c call) answer {
	session := s.sessions[node]
	if session == nil || session.epoch != c.Epoch {
		return answer{Unknown: true}
	}
	session.heard = time.Now()
	return answer{Number: session.number, Sequence: s.audience.told(node)}
}

// ask has something done on run's goroutine and waits for its answer.
func (s *server) ask(ctx context.Context, f func(reply func(answer))) answer {
	out := make(chan answer, 1)
	select {
	case s.do <- func() { f(func(a answer) { out <- a }) }:
	case <-ctx.Done():
		return answer{Error: "the server is shutting down"}
	}
	select {
	case a := <-out:
		return a
	case <-ctx.Done():
		return answer{Error: "the server is shutting down"}
	}
}

// answer answers those who wait for what the node has been told by now.
func (s *server) answer(node string, session *session) {
	at := s.audience.told(node)
	still := session.waiting[:0]
	for _, w := range session.waiting {
		switch {
		case w.sequence <= at:
			w.answer(answer{Number: session.number, Sequence: at})
		case time.Now().After(w.until):
			w.answer(answer{Error: notSoFar})
		default:
			still = append(still, w)
		}
	}
	if session.waiting = still; len(still) > 0 {
		s.asking[node] = session
	} else {
		delete(s.asking, node)
	}
}

func (s *server) end(node string) {
	if old := s.sessions[node]; old != nil {
		for _, w := range old.waiting {
			w.answer(answer{Unknown: true})
		}
		delete(s.sessions, node)
		delete(s.asking, node)
		s.audience.leave(node)
	}
}

func (s *server) publish(session *session, messages []message) {
	for _, m := range messages {
		session.number++
		m.Epoch, m.Number = session.epoch, session.number
		s.sent = m.appendTo(s.sent[:0])
		if err := s.nc.Publish(session.subject, s.sent); err != nil {
			// The node notices the gap.
			s.log.Warn("cannot feed a node; it will ask again", "subject", session.subject, "error", err)
		}
	}
}
