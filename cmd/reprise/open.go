package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/archivist"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
)

// newOpenCommand answers questions about a history from an archive.
func newOpenCommand(env *environment) *cobra.Command {
	o := openOptions{environment: env}
	c := &cobra.Command{
		Use:   "open FILE [-- COMMAND...]",
		Short: "Ask an archive what happened, with no cluster",
		Long: `Reads an archive that 'reprise export' has written and serves it, on this machine
alone, until Ctrl-C: history, why, diff, events, verify and rewind answer from it as
from a running cluster. With a command it runs just that and ends with its status.

The archive is checked as it is read; one that is damaged or cut short is refused.
What it makes takes about as much room in $TMPDIR as the events, and is removed in
the end.`,
		Example: `  reprise open incident.reprise -- reprise history deployments.apps/default/web
  reprise open incident.reprise -- bash
  reprise open incident.reprise`,
		Args: cobra.MinimumNArgs(0),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || c.ArgsLenAtDash() == 0 {
				return oneFile("reprise open everything.reprise")(c, nil)
			}
			if len(args) > 1 && c.ArgsLenAtDash() != 1 {
				return fmt.Errorf("%q is one argument too many: a command comes after --, as in: reprise open %s -- %s", args[1], args[0], args[1])
			}
			return o.run(c.Context(), args[0], args[1:])
		},
	}
	c.Flags().BoolVar(&o.damaged, "damaged-ok", false, "of an archive that is damaged, open what comes before the damage")
	return c
}

type openOptions struct {
	*environment
	damaged bool
}

func (o *openOptions) run(ctx context.Context, file string, command []string) error {
	f, err := openArchive(file)
	if err != nil {
		return err
	}
	defer f.Close()
	dir, err := os.MkdirTemp("", "reprise-open-")
	if err != nil {
		return fmt.Errorf("cannot make a directory to work in: %w; $TMPDIR says where", err)
	}
	defer os.RemoveAll(dir)
	s := &archiveServer{file: file, env: &environment{Main: o.Main, DataDir: dir, RunDir: dir}}
	defer s.close()
	if err := s.load(ctx, f, o.damaged); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted before %s was read", file)
		}
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := s.serve(ctx); err != nil {
		return err
	}
	if len(command) > 0 {
		return o.inside(ctx, dir, command)
	}
	fmt.Fprintf(o.Stdout, `%s
To ask it, in another terminal:

  export REPRISE_DATA_DIR=%s REPRISE_RUN_DIR=%[2]s KUBECONFIG=%[3]s
  %[4]s events
  %[4]s rewind now -- kubectl get pods -A

Ctrl-C closes it.
`, s.describe(), dir, s.env.Kubeconfig(), whatToType())
	<-ctx.Done()
	return nil
}

// openArchive opens a file, or says what is wrong with its name.
func openArchive(file string) (*os.File, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the archive: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, fmt.Errorf("%s is a directory and not an archive", file)
	}
	return f, nil
}

// inside runs a command that asks the archive, and passes its exit status on.
func (o *openOptions) inside(ctx context.Context, dir string, command []string) error {
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	env := &environment{DataDir: dir, RunDir: dir}
	c.Env = append(os.Environ(), "REPRISE_DATA_DIR="+dir, "REPRISE_RUN_DIR="+dir, "KUBECONFIG="+env.Kubeconfig())
	c.Stdin, c.Stdout, c.Stderr = o.Stdin, o.Stdout, o.Stderr
	// `reprise` is this program, whether or not the shell finds it.
	if self, err := os.Executable(); err == nil && command[0] == "reprise" {
		c.Path, c.Err = self, nil
	}
	return o.ended(ctx, c, command[0], c.Run())
}

// loadArchive reads an archive into a store, and shows how far it is.
func loadArchive(ctx context.Context, r io.Reader, store archivist.Store, stderr io.Writer) (loaded, error) {
	a, err := archive.NewReader(r)
	if err != nil {
		return loaded{}, err
	}
	defer a.Close()
	h := a.Header()
	bar := newBar(stderr, "reading", int64(h.To-h.From+1))
	evidence, err := archive.NewEvidence(h, nil)
	if err != nil {
		return loaded{}, err
	}
	state, err := archivist.Load(ctx, a, store, func(batch []events.Event) error {
		_ = bar.Add(len(batch)) // It only draws.
		return evidence.Take(batch)
	})
	_ = bar.Clear()
	l := loaded{header: h, footer: a.Footer(), state: state}
	if err == nil {
		l.verdict, err = evidence.End()
	}
	return l, err
}
