package main

import (
	"context"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/agents/bus/roster"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// serveRoster lets nodes connect whose credentials operators have admitted, and
// operators admit more.
func (p *controlPlane) serveRoster(ctx context.Context) error {
	credentials, err := jetstream.OpenCredentials(ctx, p.server, p.nats, jetstream.Config{}, speakingFor, p.log)
	if err != nil {
		return err
	}
	stop, err := roster.Serve(p.nats, subjectPrefix, credentials)
	if err != nil {
		return err
	}
	p.onClose(func() error { stop(); return nil })
	return nil
}

// speakingFor is what a credential of nodes opens.
func speakingFor(c events.Credential) (jetstream.Permissions, error) {
	nodes, err := bus.NewNodes(subjectPrefix, c.Name, c.Nodes)
	if err != nil {
		return jetstream.Permissions{}, err
	}
	publish, subscribe := nodes.Permissions()
	return jetstream.Permissions{Publish: publish, Subscribe: subscribe}, nil
}
