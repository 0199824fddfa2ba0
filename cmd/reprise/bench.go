package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/pebble"
)

// newBenchCommand is for those who measure. It is not shown among the commands,
// because nobody needs it who runs a cluster.
func newBenchCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:    "bench",
		Short:  "Make what benchmarks need",
		Hidden: true,
		Args:   noSuchCommand,
		RunE:   func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newGenerateCommand(env), newLoadCommand(env))
	return c
}

func newGenerateCommand(env *environment) *cobra.Command {
	var o eventsgen.Options
	var projection bool
	c := &cobra.Command{
		Use:   "generate",
		Short: "Fill an empty data directory with the made-up history of a cluster",
		Long: `Writes a log of any length into the data directory, as a cluster would have, and
with --projection also what a server has folded of it. The same seed makes the same
log, to the byte. The data directory must have no log yet.`,
		Example: `  # A million events, and a server that starts on them
  reprise bench generate --data-dir /tmp/million --events 1000000
  reprise up --data-dir /tmp/million --run-dir /tmp/million-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Events == 0 {
				return errors.New("a log of no events needs no generating: say how many with --events")
			}
			return env.generate(c.Context(), o, projection)
		},
	}
	c.Flags().Uint64Var(&o.Events, "events", 1_000_000, "how many events")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "where all chance comes from")
	c.Flags().IntVar(&o.Pods, "pods", 0, "about how many pods are alive at the end (default 12000, or fewer in a short log)")
	c.Flags().BoolVar(&projection, "projection", true, "write the projection too, so that a server need not rebuild it")
	return c
}

// generate writes a generated log, and the projection of it.
func (e *environment) generate(ctx context.Context, o eventsgen.Options, project bool) (err error) {
	if _, err := os.Stat(e.LogDir()); err == nil {
		return fmt.Errorf("%s is there already, and generated events go into an empty log only: choose another --data-dir", e.LogDir())
	}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: e.LogDir(), UnsafeNoSync: true})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	log, err := jetstream.History(ctx, nc, jetstream.Config{Prefix: subjectPrefix})
	if err != nil {
		return err
	}
	store := func([]events.Event) error { return nil }
	if project {
		s, err := pebble.Open(e.ProjectionDir(), pebble.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		b := projections.NewBuilder(nil, 0)
		store = func(batch []events.Event) error {
			outcomes, err := b.Fold(batch)
			if err != nil {
				return err
			}
			return s.Fill(batch, outcomes)
		}
	}
	progress, last, said := newProgress(e.Stdout), uint64(0), time.Now()
	for batch := range eventsgen.New(o).Batches(events.MaxBatch - 100) {
		if last, err = log.Append(ctx, last, batch); err == nil {
			err = store(batch)
		}
		if err != nil {
			return err
		}
		if time.Since(said) > time.Second {
			progress.say("%d of %d events", last, o.Events)
			said = time.Now()
		}
	}
	progress.say("%d events in %s", last, e.DataDir)
	return nil
}
