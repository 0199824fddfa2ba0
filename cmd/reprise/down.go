package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

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
			if err := requireRoot("stopping"); err != nil {
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
			if _, err := remove(env.RunDir, env.addressFile()); err != nil || !purge {
				return err
			}
			gone, err := remove(env.DataDir, env.owned()...)
			if err != nil {
				return err
			}
			if gone {
				fmt.Fprintf(env.Stdout, "%s is removed, and the history with it.\n", env.DataDir)
			} else {
				fmt.Fprintf(env.Stdout, "The history is removed. %s stays, because it is a mount point or holds what is not of Reprise.\n", env.DataDir)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove the data directory too: images, volumes, state and history")
	return c
}

// owned lists all that the program puts into the data directory.
func (e *environment) owned() []string {
	return []string{
		e.LogDir(), e.ProjectionDir(), e.ProjectionDir() + ".damaged", e.ProjectionDir() + ".verify", e.ProjectionDir() + ".stored", e.APIDir(), e.SealDir(), e.ProofDir(), filepath.Join(e.DataDir, "nodes"),
		e.Kubeconfig(), filepath.Join(e.DataDir, lockName),
	}
}

// remove removes what is ours from a directory, and the directory if nothing
// else is in it: a flag may have named one that others use too.
func remove(dir string, ours ...string) (gone bool, err error) {
	for _, path := range ours {
		if err := os.RemoveAll(path); err != nil {
			return false, fmt.Errorf("cannot remove what is in %s: %w", dir, err)
		}
	}
	err = os.Remove(dir)
	switch {
	case err == nil, errors.Is(err, os.ErrNotExist):
		return true, nil
	case errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.EBUSY):
		return false, nil
	}
	return false, fmt.Errorf("cannot remove the directory: %w", err)
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
