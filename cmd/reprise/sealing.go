package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
	stop, err := seal.Serve(p.nats, subjectPrefix, func(ctx context.Context) (seal.Rotation, error) {
		rotate := func(c seal.Config) (seal.Rotation, error) { return p.sealer.Rotate(ctx, c) }
		if config == "" {
			return seal.RotateFile(env.ClusterKey(), time.Now(), rotate)
		}
		c, err := seal.ReadConfig(config)
		if err != nil {
			return seal.Rotation{}, err
		}
		return rotate(c)
	})
	if err != nil {
		return err
	}
	p.onClose(func() error { stop(); return nil })
	return nil
}

// newSecretsCommand has what an operator does about the encryption of Secrets.
func newSecretsCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "secrets",
		Short: "Care for the keys by which Secrets are encrypted",
		Args:  noSuchCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use:   "rotate",
		Short: "Wrap the keys of all Secrets by a new cluster key",
		Long: `Makes a new cluster key, wraps the keys of all Secrets by it, and takes the old one
out of its file. With 'reprise up --encryption-config FILE' it reads FILE anew and
wraps the keys by what comes first in it: put a new key there before, and take the
old one out afterwards. No event is written either way.`,
		Example: "  reprise secrets rotate",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := env.needsCluster("has no keys"); err != nil {
				return err
			}
			nc, _, err := env.connectAsOperator()
			if err != nil {
				return err
			}
			defer nc.Close()
			done, err := seal.AskToRotate(c.Context(), nc, subjectPrefix)
			if err != nil {
				return err
			}
			fmt.Fprintf(env.Stdout, "%d objects have a key, of which %d were wrapped anew, by %s.\n", done.Keys, done.Rewrapped, strings.Join(done.By, ", "))
			return nil
		},
	})
	return c
}
