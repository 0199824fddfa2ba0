package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/agents/integrator"
	"github.com/reprise-run/reprise/events/jetstream"
)

// historyStream is the name of the JetStream stream that holds the history.
var historyStream = strings.ToUpper(subjectPrefix)

// operatorConnection is what the operator's commands reach the server by.
type operatorConnection struct {
	nats        *nats.Conn
	url         string
	history     *historian.Client
	integrators *integrator.Client
}

// noServerError says that no server answers.
type noServerError struct{ error }

// connectAsOperator connects to the running server with the rights of whoever may
// read the data directory.
func (e *environment) connectAsOperator() (nc *nats.Conn, url string, err error) {
	address, err := os.ReadFile(e.addressFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", noServerError{fmt.Errorf("no server runs here (there is no %s): start one with `reprise up`, or say with --run-dir where it runs", e.addressFile())}
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot tell where the server listens: %w", err)
	}
	as, err := jetstream.WithSeed(e.operatorSeed())
	if err != nil {
		return nil, "", fmt.Errorf("%w; asking about the history needs the rights of the one who started the server", err)
	}
	url = "nats://" + strings.TrimSpace(string(address))
	nc, err = nats.Connect(url, as, historian.Inbox(subjectPrefix), nats.Name("reprise command"))
	if err != nil {
		return nil, "", noServerError{fmt.Errorf("cannot reach the server at %s: %w; is `reprise up` running?", strings.TrimSpace(string(address)), err)}
	}
	return nc, url, nil
}

// serveIntegrators lets integrators read, and operators manage them.
func (p *controlPlane) serveIntegrators(ctx context.Context, log *jetstream.Log) error {
	subscribers, err := jetstream.OpenSubscribers(ctx, p.server, p.nats, jetstream.Config{}, p.log)
	if err != nil {
		return err
	}
	p.onClose(func() error { subscribers.Close(); return nil })
	stop, err := integrator.Serve(p.nats, subjectPrefix, integrator.Server{Subscribers: subscribers, Last: log.Last, Now: time.Now})
	if err != nil {
		return err
	}
	p.onClose(func() error { stop(); return nil })
	return jetstream.MakeDeliveries(ctx, p.nats, jetstream.Config{})
}
