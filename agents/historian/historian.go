// Package historian answers questions about the cluster's history over NATS:
// what happened to an object, because of what, what followed, and whether the
// projection is what the log says. A server runs Serve over its durable
// projection; the command line, or anybody with the operator's key, is a Client.
//
// It only reads. Questions need neither the committer nor the API server.
//
//	<prefix>-history.<method>   requests; what may be long comes back in pages
package historian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/projections/history"
)

// Source is what the answers come from.
type Source struct {
	// Reader is the durable projection.
	Reader history.Reader
	// Wait returns once the projection has folded a sequence.
	Wait func(ctx context.Context, sequence uint64) error
	// Verify rebuilds the projection from the log and compares.
	Verify func(ctx context.Context) (Verification, error)
	// Checkpoint returns a signed checkpoint of the log as it is now.
	Checkpoint func(ctx context.Context) ([]byte, error)
	// Export writes an archive of a part of the history. It may be nil.
	Export func(ctx context.Context, r ExportRange, w io.Writer) error
}

// Verification is what came of comparing the projection with the log.
type Verification struct {
	// Sequence is how far was compared, Chain the link of the hash chain there.
	Sequence uint64
	Chain    string
	// Objects is how many there are; Rebuilt is the hash over the projection as
	// the log makes it, and Stored that over the one in use.
	Objects         int
	Rebuilt, Stored string
	// Fault says in words what is wrong, empty if all is identical.
	Fault string
}

const (
	methodEvents     = "events"
	methodTell       = "tell"
	methodFind       = "find"
	methodPropose    = "propose"
	methodActors     = "actors"
	methodSubject    = "subject"
	methodWhy        = "why"
	methodFollowing  = "following"
	methodBetween    = "between"
	methodPoint      = "point"
	methodVerify     = "verify"
	methodCheckpoint = "checkpoint"

	headerError = "Reprise-Error"
	headerNext  = "Reprise-Next" // where the next page begins, if there is one
	headerMore  = "Reprise-More" // this message is followed by another with more of the answer

	// page is how many bytes of events one answer holds, about.
	page = 256 << 10
	// part is how many bytes of an answer one message holds. One event may have more
	// than NATS carries at once, in its text form and with what it changed.
	part = 2 << 20
	// poll is how long a follower's question stays open when nothing happens.
	poll = 20 * time.Second
	// flushed bounds how long the server tells NATS to listen.
	flushed = 10 * time.Second
)

// Permissions are the subjects that an operator who asks may publish and
// subscribe to. Answers to others, such as tokens to nodes, are not among them.
func Permissions(prefix string) (publish, subscribe []string) {
	return []string{prefix + "-history.>"}, []string{inbox(prefix) + ".>"}
}

// Inbox is the option with which an operator must connect: answers come where
// only operators may listen.
func Inbox(prefix string) nats.Option { return nats.CustomInboxPrefix(inbox(prefix)) }

func inbox(prefix string) string { return "_INBOX." + prefix + ".history" }

func subject(prefix, method string) string { return prefix + "-history." + method }

// eventsCall asks for a page of events.
type eventsCall struct {
	Query history.Query
	// Wait keeps the question open until there is an event at Query.First.
	Wait bool
}

type server struct {
	Source
	ctx       context.Context
	nc        *nats.Conn
	prefix    string
	answering gate
	exporting chan struct{} // holds one for each export under way
}

// Serve answers until stop is called, which waits for the answers under way:
// after it nothing reads the source any more.
func Serve(nc *nats.Conn, prefix string, s Source) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	h := &server{Source: s, ctx: ctx, nc: nc, prefix: prefix, exporting: make(chan struct{}, exports)}
	var subscriptions []*nats.Subscription
	stop = func() {
		for _, sub := range subscriptions {
			_ = sub.Drain() // A closed connection has no subscriptions.
		}
		cancel()
		h.answering.close()
	}
	for method, answer := range map[string]func(*nats.Msg) (*nats.Msg, error){
		methodEvents: h.events, methodTell: h.tell, methodFind: h.find, methodSubject: h.subject, methodWhy: h.why,
		methodPropose: h.propose, methodActors: h.actors,
		methodFollowing: h.following, methodBetween: h.between, methodPoint: h.point, methodVerify: h.verify,
		methodCheckpoint: h.checkpoint,
		methodExport:     h.begin,
	} {
		sub, err := nc.QueueSubscribe(subject(prefix, method), "history", func(m *nats.Msg) {
			started := h.answering.start(func() {
				reply, err := guarded(answer, m)
				if err != nil {
					reply = refusal(err)
				}
				respond(m, reply)
			})
			if !started {
				respond(m, refusal(errStopping))
			}
		})
		if err != nil {
			stop()
			return nil, fmt.Errorf("cannot serve questions about the history: %w", err)
		}
		subscriptions = append(subscriptions, sub)
	}
	if err := nc.FlushTimeout(flushed); err != nil {
		stop()
		return nil, fmt.Errorf("cannot serve questions about the history: %w", err)
	}
	return stop, nil
}

// guarded answers a question, or says that it cannot where that brings an answer
// down: what an archive holds need not be what a gate has let in.
func guarded(answer func(*nats.Msg) (*nats.Msg, error), m *nats.Msg) (reply *nats.Msg, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, fmt.Errorf("the history holds what this program cannot make sense of: %v", p)
		}
	}()
	return answer(m)
}

var errStopping = errors.New("Reprise is stopping; ask again when it runs")

// gate lets answers start until it is closed. NATS hands over questions after its
// subscription has ended too, and the source may be closed by then.
type gate struct {
	mu     sync.Mutex
	closed bool
	busy   sync.WaitGroup
}

// start runs an answer beside the caller, unless the gate is closed.
func (g *gate) start(answer func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.busy.Go(answer)
	}
	return !g.closed
}

// close waits for the answers that have started.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.busy.Wait()
}

// respond sends an answer, or says that it cannot. As everywhere: the one who asks
// names the subject of the answer, and the server may publish on all.
func respond(m, reply *nats.Msg) {
	if !strings.HasPrefix(m.Reply, nats.InboxPrefix) {
		return
	}
	for rest := reply.Data; len(rest) > part; rest = reply.Data {
		first := nats.NewMsg("")
		first.Header.Set(headerMore, "1")
		first.Data, reply.Data = rest[:part], rest[part:]
		if m.RespondMsg(first) != nil {
			return
		}
	}
	_ = m.RespondMsg(reply) // If that fails, whoever asked has gone.
}

func refusal(err error) *nats.Msg {
	reply := nats.NewMsg("")
	reply.Header.Set(headerError, strconv.Quote(err.Error()))
	return reply
}

// point answers with the sequence of a point.
func (s *server) point(m *nats.Msg) (*nats.Msg, error) {
	p, err := question[history.Point](m)
	if err != nil {
		return nil, err
	}
	sequence, err := p.Resolve(s.Reader)
	return whole(sequence, err)
}

func (s *server) verify(*nats.Msg) (*nats.Msg, error) {
	return whole(s.Verify(s.ctx))
}
