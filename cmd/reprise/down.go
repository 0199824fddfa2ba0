package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/node/runtime"
)

// newDownCommand stops what `up` leaves running.
func newDownCommand(env *environment) *cobra.Command {
	var purge bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop the containers of this machine's nodes, and leave nothing running",
		Long: `Stops the containers and containerd, and removes mounts, network namespaces,
nftables rules and control groups. The cluster's history and state stay, and
'reprise up' brings the pods back; --purge removes them too.`,
		Example: "  reprise down --purge",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := requireRoot(); err != nil {
				return err
			}
			if _, err := os.Stat(env.DataDir); errors.Is(err, os.ErrNotExist) {
				fmt.Fprintf(env.Stdout, "There is nothing in %s to stop.\n", env.DataDir)
				return nil
			}
			held, err := acquireLock(env.DataDir)
			if err != nil {
				return err
			}
			defer held.Close()
			nodes, err := env.nodes()
			if err != nil {
				return err
			}
			for _, name := range nodes {
				config := env.nodeConfig(name)
				if config.BinDir, err = env.BinDir(); err != nil {
					return err
				}
				if err := runtime.Down(c.Context(), config, purge); err != nil {
					return fmt.Errorf("cannot take down node %s: %w", name, err)
				}
				fmt.Fprintf(env.Stdout, "Node %s is down.\n", name)
			}
			if err := os.RemoveAll(env.RunDir); err != nil {
				return fmt.Errorf("cannot remove the run directory: %w", err)
			}
			if !purge {
				return nil
			}
			if err := os.RemoveAll(env.DataDir); err != nil {
				return fmt.Errorf("cannot remove the data directory: %w", err)
			}
			fmt.Fprintf(env.Stdout, "%s is removed, and the history with it.\n", env.DataDir)
			return nil
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove the data directory too: images, volumes, state and history")
	return c
}

// nodes lists the nodes that this machine has data of.
func (e *environment) nodes() ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(e.DataDir, "nodes", "*"))
	if err != nil {
		return nil, err
	}
	for i, dir := range dirs {
		dirs[i] = filepath.Base(dir)
	}
	return dirs, nil
}
