// Package roster lets an operator say who may speak for which nodes: whoever has the
// key of a credential may use the subjects of the nodes that it names (bus.Nodes),
// and no others. The key is made by who is going to use it, and only its public half
// is told.
//
//	<prefix>-roster.<method>   requests: admit
package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

const methodAdmit = "admit"

// answered is how long a server may take for an answer.
const answered = 30 * time.Second

// Permissions are the subjects that an operator may publish on.
func Permissions(prefix string) (publish []string) { return []string{prefix + "-roster.*"} }

func subject(prefix, method string) string { return prefix + "-roster." + method }

// Keeper keeps the credentials of nodes.
type Keeper interface {
	// Admit lets whoever has the credential's key connect as its nodes. It takes
	// the place of an earlier credential of that name.
	Admit(ctx context.Context, c events.Credential) error
}

// answer is empty, or says why not.
type answer struct {
	Error string `json:",omitempty"`
}

// Serve does what operators ask until stop is called.
func Serve(nc *nats.Conn, prefix string, keeper Keeper) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	sub, err := nc.QueueSubscribe(subject(prefix, methodAdmit), "roster", func(m *nats.Msg) {
		ctx, cancel := context.WithTimeout(ctx, answered)
		defer cancel()
		var c events.Credential
		var a answer
		err := json.Unmarshal(m.Data, &c)
		if err == nil {
			err = keeper.Admit(ctx, c)
		}
		if err != nil {
			a.Error = err.Error()
		}
		respond(m, a)
	})
	if err == nil {
		err = nc.FlushTimeout(answered)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("cannot serve the roster of nodes: %w", err)
	}
	return func() {
		_ = sub.Drain() // A closed connection has no subscriptions.
		cancel()
	}, nil
}

// respond sends an answer. As everywhere, the one who asks names the subject of the
// answer, and the server may publish on all.
func respond(m *nats.Msg, a answer) {
	if !strings.HasPrefix(m.Reply, nats.InboxPrefix) {
		return
	}
	body, err := json.Marshal(a)
	if err != nil {
		panic(fmt.Sprintf("cannot encode an answer: %v", err))
	}
	// A failure means that whoever asked has gone.
	_ = m.Respond(body)
}

// Admit asks the servers to admit nodes, over the connection of an operator.
func Admit(ctx context.Context, nc *nats.Conn, prefix string, c events.Credential) error {
	ctx, cancel := context.WithTimeout(ctx, answered)
	defer cancel()
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	m, err := nc.RequestWithContext(ctx, subject(prefix, methodAdmit), body)
	if errors.Is(err, nats.ErrNoResponders) {
		return errors.New("no server admits nodes: start one with `reprise server`")
	}
	if err != nil {
		return fmt.Errorf("asking the server to admit nodes: %w", err)
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if a.Error != "" {
		return fmt.Errorf("the server does not admit the nodes of %s: %s", c.Name, a.Error)
	}
	return nil
}
