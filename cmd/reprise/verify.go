package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
)

// newVerifyCommand proves that the state is what the history says.
func newVerifyCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Rebuild the state from the log and compare it with the one in use",
		Long: `Reads the log from its first event, checks the chain of hashes that ties each event
to the one before, folds it all into an empty projection, and compares that with
the one in use, to the byte. Exits with 1 at the first difference.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return env.ask(func(h *historian.Client) error {
				v, err := h.Verify(c.Context())
				if err != nil {
					return err
				}
				fmt.Fprintf(env.Stdout, "sequence   %d\nobjects    %d\nchain      %s\nin use     %s\nrebuilt    %s\n",
					v.Sequence, v.Objects, v.Chain, v.Stored, v.Rebuilt)
				if v.Fault != "" {
					return fmt.Errorf("not identical: %s", v.Fault)
				}
				fmt.Fprintln(env.Stdout, "identical: the chain is whole, and the state is what the log says")
				return nil
			})
		},
	}
}
