// Package integrator lets operators say who outside of the cluster may read which
// part of its history: what a pattern of events means, and how integrators are
// created, listed and deleted over NATS. The keeper of a log's subscribers
// (events.Subscribers) does what is said here.
//
//	<prefix>-integrator.<method>   requests: create, list, delete
package integrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

const (
	methodCreate = "create"
	methodList   = "list"
	methodDelete = "delete"

	headerError = "Reprise-Error"

	// answered is how long the server may take for an answer.
	answered = 30 * time.Second
)

// Permissions are the subjects that an operator may publish on to manage
// integrators. Answers come to the inbox of the operator's connection.
func Permissions(prefix string) (publish []string) { return []string{prefix + "-integrator.*"} }

func subject(prefix, method string) string { return prefix + "-integrator." + method }

// Server is what the answers come from.
type Server struct {
	Subscribers events.Subscribers
	// Last is the sequence at which the log ends now.
	Last func(context.Context) (uint64, error)
	// Now is the clock.
	Now func() time.Time
}

// createCall asks for a new integrator.
type createCall struct {
	events.Subscriber
	// FromNow begins with what comes; Subscriber.After counts otherwise.
	FromNow bool
}

// Serve answers until stop is called.
func Serve(nc *nats.Conn, prefix string, s Server) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	// One question at a time: what they change outlives this process.
	sub, err := nc.QueueSubscribe(subject(prefix, "*"), "integrator", func(m *nats.Msg) {
		ctx, cancel := context.WithTimeout(ctx, answered)
		defer cancel()
		answer, err := s.answer(ctx, m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], m.Data)
		respond(m, answer, err)
	})
	if err == nil {
		err = nc.FlushTimeout(answered)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("cannot serve questions about integrators: %w", err)
	}
	return func() {
		_ = sub.Drain() // A closed connection has no subscriptions.
		cancel()
	}, nil
}

func (s Server) answer(ctx context.Context, method string, body []byte) (any, error) {
	switch method {
	case methodCreate:
		var call createCall
		if err := json.Unmarshal(body, &call); err != nil {
			return nil, fmt.Errorf("not a description of an integrator: %w", err)
		}
		return s.create(ctx, call)
	case methodList:
		return s.Subscribers.List(ctx)
	case methodDelete:
		return nil, s.Subscribers.Remove(ctx, string(body))
	}
	return nil, fmt.Errorf("integrators can be created, listed and deleted, not %q", method)
}

func (s Server) create(ctx context.Context, call createCall) (events.Subscriber, error) {
	last, err := s.Last(ctx)
	if err != nil {
		return call.Subscriber, err
	}
	if call.FromNow {
		call.After = last
	}
	if call.After > last {
		return call.Subscriber, fmt.Errorf("the log ends at sequence %d, so %d is in the future; leave --from out to begin with what comes", last, call.After+1)
	}
	call.Created = s.Now().UTC().Truncate(time.Second)
	return call.Subscriber, s.Subscribers.Add(ctx, call.Subscriber)
}

// respond sends an answer. As everywhere, the one who asks names the subject of
// the answer, and the server may publish on all.
func respond(m *nats.Msg, answer any, err error) {
	if !strings.HasPrefix(m.Reply, nats.InboxPrefix) {
		return
	}
	reply := nats.NewMsg("")
	if err == nil {
		reply.Data, err = json.Marshal(answer)
	}
	if err != nil {
		reply.Header.Set(headerError, strconv.Quote(err.Error()))
	}
	// A failure means that whoever asked has gone.
	_ = m.RespondMsg(reply)
}

// Client manages the integrators of a running server.
type Client struct {
	nc     *nats.Conn
	prefix string
}

// NewClient returns a client of the cluster whose log has the prefix.
func NewClient(nc *nats.Conn, prefix string) *Client { return &Client{nc: nc, prefix: prefix} }

// Create makes an integrator who reads what is after sub.After, or from now on.
func (c *Client) Create(ctx context.Context, sub events.Subscriber, fromNow bool) (events.Subscriber, error) {
	var made events.Subscriber
	return made, c.ask(ctx, methodCreate, createCall{Subscriber: sub, FromNow: fromNow}, &made)
}

// List returns all integrators and how far they are.
func (c *Client) List(ctx context.Context) ([]events.SubscriberStatus, error) {
	var all []events.SubscriberStatus
	return all, c.ask(ctx, methodList, nil, &all)
}

// Delete ends an integrator's connections and forgets it.
func (c *Client) Delete(ctx context.Context, name string) error {
	return c.send(ctx, methodDelete, []byte(name), nil)
}

func (c *Client) ask(ctx context.Context, method string, call, into any) error {
	body, err := json.Marshal(call)
	if err != nil {
		return err
	}
	return c.send(ctx, method, body, into)
}

func (c *Client) send(ctx context.Context, method string, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answered)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, subject(c.prefix, method), body)
	if errors.Is(err, nats.ErrNoResponders) {
		return errors.New("no server manages integrators: start one with `reprise up`")
	}
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	if refusal := m.Header.Get(headerError); refusal != "" {
		if text, err := strconv.Unquote(refusal); err == nil {
			refusal = text
		}
		return errors.New(refusal)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(m.Data, into)
}
