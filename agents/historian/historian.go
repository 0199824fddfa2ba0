// Package historian answers questions about the cluster's history over NATS:
// what happened to an object, because of what, what followed, and whether the
// projection is what the log says. A server runs Serve over its durable
// projection; the command line, or anybody with the operator's key, is a Client.
//
// It only reads. Questions need neither the committer nor the API server.
//
//	<prefix>-history.<method>   requests; events come back in their text form
package historian

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
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
	methodWhy        = "why"
	methodDown       = "down"
	methodPoint      = "point"
	methodVerify     = "verify"
	methodCheckpoint = "checkpoint"

	headerError = "Reprise-Error"
	headerNext  = "Reprise-Next"
	headerMore  = "Reprise-More" // there if Limit has cut the answer short

	// page is how many bytes of events one answer holds, about.
	page = 256 << 10
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

// eventCall asks about one event.
type eventCall struct {
	Sequence uint64
	Limit    int
}

type server struct {
	Source
	ctx context.Context
}

// Serve answers until stop is called, which waits for the answers under way:
// after it nothing reads the source any more.
func Serve(nc *nats.Conn, prefix string, s Source) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	h := &server{Source: s, ctx: ctx}
	var subscriptions []*nats.Subscription
	var answering gate
	stop = func() {
		for _, sub := range subscriptions {
			_ = sub.Drain() // A closed connection has no subscriptions.
		}
		cancel()
		answering.close()
	}
	for method, answer := range map[string]func(*nats.Msg) (*nats.Msg, error){
		methodEvents: h.events, methodWhy: h.why, methodDown: h.down, methodPoint: h.point, methodVerify: h.verify,
		methodCheckpoint: h.checkpoint,
	} {
		sub, err := nc.QueueSubscribe(subject(prefix, method), "history", func(m *nats.Msg) {
			started := answering.start(func() {
				reply, err := answer(m)
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
	// Any other failure means that whoever asked has gone: there is nobody to tell.
	if err := m.RespondMsg(reply); errors.Is(err, nats.ErrMaxPayload) {
		_ = m.RespondMsg(refusal(fmt.Errorf("the answer has %d bytes, which is more than NATS carries at once; ask for less", len(reply.Data))))
	}
}

func refusal(err error) *nats.Msg {
	reply := nats.NewMsg("")
	reply.Header.Set(headerError, strconv.Quote(err.Error()))
	return reply
}

func (s *server) events(m *nats.Msg) (*nats.Msg, error) {
	var call eventsCall
	if err := json.Unmarshal(m.Data, &call); err != nil {
		return nil, fmt.Errorf("not a question about events: %w", err)
	}
	if call.Wait {
		ctx, cancel := context.WithTimeout(s.ctx, poll)
		defer cancel()
		if err := s.Wait(ctx, call.Query.First); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
	// What is asked for is what is there now; the next page goes on after it.
	folded := s.Reader.Folded()
	if call.Query.Last == 0 || call.Query.Last > folded {
		call.Query.Last = folded
	}
	var text strings.Builder
	reply := nats.NewMsg("")
	for e, err := range s.Reader.Events(s.ctx, call.Query) {
		if err != nil {
			return nil, err
		}
		if text.Len() >= page {
			reply.Header.Set(headerNext, strconv.FormatUint(e.Sequence, 10))
			break
		}
		text.WriteString(e.Text())
	}
	if call.Wait && reply.Header.Get(headerNext) == "" {
		reply.Header.Set(headerNext, strconv.FormatUint(max(folded+1, call.Query.First), 10))
	}
	reply.Data = []byte(text.String())
	return reply, nil
}

func (s *server) why(m *nats.Msg) (*nats.Msg, error) {
	return s.about(m, func(call eventCall) ([]events.Event, error) {
		return history.Why(s.Reader, call.Sequence)
	})
}

// down answers with an event and what followed from it, those nearest to it
// first: the tree is told by their causes.
func (s *server) down(m *nats.Msg) (*nats.Msg, error) {
	var more bool
	reply, err := s.about(m, func(call eventCall) (all []events.Event, err error) {
		var root *history.Tree
		root, more, err = history.Down(s.ctx, s.Reader, call.Sequence, call.Limit)
		for queue := []*history.Tree{root}; err == nil && len(queue) > 0; queue = queue[1:] {
			all = append(all, queue[0].Event)
			queue = append(queue, queue[0].Then...)
		}
		return all, err
	})
	if err == nil && more {
		reply.Header.Set(headerMore, "true")
	}
	return reply, err
}

// point answers with the sequence of a point.
func (s *server) point(m *nats.Msg) (*nats.Msg, error) {
	var p history.Point
	if err := json.Unmarshal(m.Data, &p); err != nil {
		return nil, fmt.Errorf("not a question about a point in time: %w", err)
	}
	sequence, err := p.Resolve(s.Reader)
	if err != nil {
		return nil, err
	}
	reply := nats.NewMsg("")
	reply.Data = strconv.AppendUint(nil, sequence, 10)
	return reply, nil
}

// about answers a question about one event with some others.
func (s *server) about(m *nats.Msg, find func(eventCall) ([]events.Event, error)) (*nats.Msg, error) {
	var call eventCall
	if err := json.Unmarshal(m.Data, &call); err != nil {
		return nil, fmt.Errorf("not a question about an event: %w", err)
	}
	found, err := find(call)
	if err != nil {
		return nil, err
	}
	reply := nats.NewMsg("")
	for i := range found {
		reply.Data = append(reply.Data, found[i].Text()...)
	}
	return reply, nil
}

func (s *server) verify(*nats.Msg) (*nats.Msg, error) {
	v, err := s.Verify(s.ctx)
	if err != nil {
		return nil, err
	}
	reply := nats.NewMsg("")
	reply.Data, err = json.Marshal(v)
	return reply, err
}
