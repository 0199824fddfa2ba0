package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/reprise-run/reprise/agents/api/seal"
	"github.com/reprise-run/reprise/events/jetstream"
)

// ClusterKey is the encryption configuration with a key of its own that is made at
// the first start.
func (e *environment) ClusterKey() string { return filepath.Join(e.SealDir(), "encryption.yaml") }

// startSealing gets the cluster keys. config is the encryption configuration that
// the operator has named, if any.
func (p *controlPlane) startSealing(ctx context.Context, env *environment, config string) error {
	vault, err := jetstream.Vault(ctx, p.nats, jetstream.Config{})
	if err != nil {
		return err
	}
	if config == "" {
		if err := seal.EnsureConfig(ctx, env.ClusterKey(), vault, time.Now()); err != nil {
			return err
		}
	}
	c, err := seal.ReadConfig(cmp.Or(config, env.ClusterKey()))
	if err != nil {
		return err
	}
	if p.sealer, err = seal.New(ctx, seal.Options{Vault: vault, Config: c, Log: p.log}); err != nil {
		return fmt.Errorf("cannot encrypt and decrypt Secrets: %w", err)
	}
	return nil
}
