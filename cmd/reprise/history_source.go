package main

import (
	"cmp"
	"context"

	"github.com/reprise-run/reprise/agents/api/seal"
	"github.com/reprise-run/reprise/agents/bus/roster"
	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/agents/integrator"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/projections/pebble"
)

// operator is the NATS user of whoever may read the data directory.
const operator = "operator"

// startHistory answers questions about the history from the durable projection.
func (p *controlPlane) startHistory(env *environment, log events.Log, store *pebble.Store) error {
	publish, subscribe := historian.Permissions(subjectPrefix)
	publish = append(publish, integrator.Permissions(subjectPrefix)...)
	publish = append(publish, seal.Permissions(subjectPrefix)...)
	publish = append(publish, roster.Permissions(subjectPrefix)...)
	publish = append(publish, jetstream.DeliveryPermissions(subjectPrefix)...)
	if _, err := p.server.AddUser(operator, jetstream.Permissions{Publish: publish, Subscribe: subscribe}); err != nil {
		return err
	}
	stop, err := historian.Serve(p.nats, subjectPrefix, historian.Source{
		Reader:     store,
		Wait:       p.history.Wait,
		Checkpoint: p.signer.Checkpoint,
		Export:     exporting(onFiles{log, env.LogDir()}, store, p.signer.Checkpoint, p.log),
		Verify: func(ctx context.Context) (historian.Verification, error) {
			report, err := store.Verify(ctx, blocks.ReadAhead(log, env.LogDir(), ""), p.history.View())
			if err != nil {
				return historian.Verification{}, err
			}
			return historian.Verification{
				Sequence: report.Sequence, Chain: report.Chain, Objects: report.Objects,
				Rebuilt: report.Hash, Stored: report.Stored,
				Fault: cmp.Or(report.Damage, report.Difference),
			}, nil
		},
	})
	if err != nil {
		return err
	}
	p.onClose(func() error { stop(); return nil })
	return nil
}
