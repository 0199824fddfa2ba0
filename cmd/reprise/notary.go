package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/notary"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/projections/pebble"
)

// ProofDir holds the key that signs checkpoints, and the checkpoints: apart from the
// log.
func (e *environment) ProofDir() string { return filepath.Join(e.DataDir, "proof") }

// notaryOptions say when checkpoints of the log are signed, and where they are kept
// beside the data directory.
type notaryOptions struct {
	dirs     []string
	events   uint64
	interval time.Duration
}

func (o *notaryOptions) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&o.dirs, "checkpoints", nil, "a directory in which to keep signed checkpoints of the log too, best one that another machine keeps; may be repeated")
	c.Flags().Uint64Var(&o.events, "checkpoint-events", 1000, "sign a checkpoint when so many events have come since the last")
	c.Flags().DurationVar(&o.interval, "checkpoint-interval", 5*time.Minute, "sign a checkpoint when an event has waited so long for one")
}

func (o *notaryOptions) check() error {
	if o.events == 0 || o.interval <= 0 {
		return fmt.Errorf("--checkpoint-events %d and --checkpoint-interval %s: both must be more than nothing", o.events, o.interval)
	}
	return nil
}

// openSigner opens the key of checkpoints.
func (p *controlPlane) openSigner(env *environment, store *pebble.Store) error {
	var err error
	p.signer, err = notary.NewSigner(notary.SignerOptions{
		Dir: env.ProofDir(), Also: p.checkpoints.dirs,
		Folded: store.Folded, Chains: store.Chains, Projection: p.history, Proposer: p.proposer,
		Log: p.log, Version: programVersion,
	})
	return err
}

// notarize signs checkpoints until ctx ends.
func (p *controlPlane) notarize(ctx context.Context) error {
	d := notary.New(p.signer.Object(), notary.Options{Events: p.checkpoints.events, Interval: p.checkpoints.interval})
	r := runner.New(d, runner.Options{
		Projection: p.history, Proposer: p.proposer, Gate: p.signer, Logger: p.log, Version: programVersion,
	})
	if err := r.Run(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.Actor(), err)
	}
	return ctx.Err()
}
