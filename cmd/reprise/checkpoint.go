package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/agents/notary"
	"github.com/reprise-run/reprise/events/proof"
)

// newCheckpointCommand gives an auditor what to take away.
func newCheckpointCommand(env *environment) *cobra.Command {
	var key bool
	c := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print a signed checkpoint of the log, to be kept elsewhere",
		Long: `A checkpoint says how the log is now, in a few lines that are signed. Who keeps it
where nobody of the cluster can change it can prove later that no event up to there was
altered, removed or put in another order: ` + "`reprise verify --checkpoint FILE --key VERIFIER`" + `.

If no server runs, the newest checkpoint on disk is printed.`,
		Example: `  reprise checkpoint > audit-2026-11.checkpoint
  reprise checkpoint --key > reprise.verifier`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := env.needsCluster("signs nothing"); err != nil {
				return err
			}
			if key {
				text, err := os.ReadFile(notary.VerifierFile(env.ProofDir()))
				if err != nil {
					return noCheckpoints(err, env.ProofDir())
				}
				_, err = env.Stdout.Write(text)
				return err
			}
			if _, err := os.Stat(env.addressFile()); err == nil {
				var signed []byte
				err := env.ask(func(h *historian.Client) (err error) {
					signed, err = h.Checkpoint(c.Context())
					return err
				})
				if err == nil {
					_, err = env.Stdout.Write(signed)
					return err
				}
				fmt.Fprintf(env.Stderr, "no new checkpoint is signed (%v); this is the newest on disk:\n", err)
			}
			return env.newestCheckpoint()
		},
	}
	c.Flags().BoolVar(&key, "key", false, "print the public key instead, with which checkpoints are verified")
	return c
}

// newestCheckpoint prints the newest checkpoint on disk.
func (e *environment) newestCheckpoint() error {
	newest, err := e.newestOnDisk()
	if err != nil {
		return err
	}
	_, err = e.Stdout.Write(newest)
	return err
}

func (e *environment) newestOnDisk() ([]byte, error) {
	path := notary.CheckpointFile(e.ProofDir())
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, noCheckpoints(err, e.ProofDir())
	}
	notes, _ := proof.Split(file)
	if len(notes) == 0 {
		return nil, fmt.Errorf("there is no checkpoint in %s yet", path)
	}
	return notes[len(notes)-1], nil
}

// noCheckpoints explains why there are none to be read.
func noCheckpoints(err error, dir string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no checkpoint was signed here (%s is empty): start the cluster once with `reprise up`, or say with --data-dir where it is", dir)
	}
	return fmt.Errorf("cannot read checkpoints: %s", strings.TrimPrefix(err.Error(), "open "))
}
