package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/events/durable"
)

// newExportCommand writes the history, or a part of it, to a file.
func newExportCommand(env *environment) *cobra.Command {
	o := exportOptions{environment: env}
	c := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the history, or a part of it, to an archive",
		Long: `Writes the events between two moments, both included, to a file that needs nothing
else: compressed, and with what proves that it is what was appended. 'reprise open'
answers questions from it where there is no cluster. It is checked as it is written.
Values of Secrets are in it as they are in the log; keys are not. "-" is standard
output. docs/archive-format.md describes the file.`,
		Example: `  reprise export everything.reprise
  reprise export --from -24h yesterday.reprise
  reprise export --from 22:00 --to @81200 incident.reprise`,
		Args: oneFile("reprise export everything.reprise"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), args[0]) },
	}
	c.Flags().StringVar(&o.from, "from", "", "where to begin: a time, a while ago as -15m, or an event as @812; at the log's beginning if not given")
	c.Flags().StringVar(&o.to, "to", "", "where to end; at the log's end if not given")
	c.Flags().BoolVar(&o.force, "force", false, "replace the file if it is there")
	c.Flags().BoolVar(&o.offline, "offline", false, "read the data directory of a cluster that is stopped")
	return c
}

// oneFile wants one argument that names a file.
func oneFile(example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return fmt.Errorf("which file? Say for example: %s", example)
		}
		return nil
	}
}

type exportOptions struct {
	*environment
	from, to       string
	force, offline bool
}

func (o *exportOptions) run(ctx context.Context, file string) error {
	if file == "-" && terminal(o.Stdout) {
		return errors.New("an archive is nothing to read on a terminal: name a file, or send the output to one")
	}
	if _, err := os.Lstat(file); err == nil && !o.force && file != "-" {
		return fmt.Errorf("%s is there already: name another file, or say --force to replace it", file)
	}
	export := func(write exporter, r historian.ExportRange) error {
		if file == "-" {
			return o.write(ctx, write, r, o.Stdout, "standard output")
		}
		return o.toFile(ctx, write, r, file)
	}
	if o.offline {
		return o.fromStopped(ctx, export)
	}
	err := o.ask(func(h *historian.Client) error {
		resolve := func(text string) (uint64, error) { return resolve(ctx, h, text) }
		r, err := o.between(resolve)
		if err != nil {
			return err
		}
		return export(h.Export, r)
	})
	if errors.As(err, new(noServerError)) {
		return fmt.Errorf("%w; --offline reads the data directory of a cluster that is stopped", err)
	}
	return err
}

// exporter writes an archive.
type exporter func(ctx context.Context, r historian.ExportRange, w io.Writer) error

// between finds the events between which to export.
func (o *exportOptions) between(resolve func(string) (uint64, error)) (r historian.ExportRange, err error) {
	for _, end := range []struct {
		text string
		into *uint64
	}{{o.from, &r.From}, {o.to, &r.To}} {
		if end.text == "" {
			continue
		}
		if *end.into, err = resolve(end.text); err != nil {
			return r, err
		}
	}
	return r, nil
}

// toFile writes an archive that is there whole or not at all.
func (o *exportOptions) toFile(ctx context.Context, write exporter, r historian.ExportRange, name string) error {
	f, err := renameio.NewPendingFile(name, renameio.WithTempDir(filepath.Dir(name)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("cannot write to the directory of %s: %w", name, err)
	}
	err = o.write(ctx, write, r, f, name)
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(name))
	}
	return errors.Join(err, f.Cleanup())
}

// write exports to w and tells what it was.
func (o *exportOptions) write(ctx context.Context, write exporter, r historian.ExportRange, w io.Writer, name string) error {
	h, footer, n, err := o.copy(ctx, write, r, w)
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: there is no new archive in %s", name)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(o.Stderr, "events %d to %d, %s of them in %s: %s\n", h.From, h.To, size(footer.Raw), size(n), name)
	if h.Proof == nil {
		fmt.Fprintln(o.Stderr, "It has no checkpoint, because none is signed now of these events; its hash chain is whole.")
	}
	return nil
}

// copy exports to w, and checks on the way what it writes. It returns how many bytes
// the archive has.
func (o *exportOptions) copy(ctx context.Context, write exporter, r historian.ExportRange, w io.Writer) (archive.Header, archive.Footer, uint64, error) {
	check, copied := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(ctx, r, io.MultiWriter(copied, w))
		copied.CloseWithError(err)
		written <- err
	}()
	s := summing{Reader: check}
	h, footer, err := o.check(&s)
	check.CloseWithError(err)
	if failed := <-written; failed != nil {
		err = failed // The check fails too, when there is nothing more to read.
	}
	return h, footer, s.n, err
}

// check reads an archive, showing how far it is.
func (o *exportOptions) check(r io.Reader) (archive.Header, archive.Footer, error) {
	var bar *progressbar.ProgressBar
	h, f, err := archive.Check(r, func(a *archive.Reader) error {
		h := a.Header()
		if bar == nil {
			bar = newBar(o.Stderr, "exporting", int64(h.To-h.From+1))
		}
		return bar.Set64(int64(a.Last() - h.From + 1))
	})
	if bar != nil {
		err = errors.Join(err, bar.Exit())
	}
	return h, f, err
}

// summing counts what is read.
type summing struct {
	io.Reader
	n uint64
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.n += uint64(n)
	return n, err
}

// size prints a number of bytes.
func size(n uint64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d bytes", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}
