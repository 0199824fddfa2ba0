package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/reprise-run/reprise/agents/archivist"
	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/proof"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
)

// exporting writes archives of a log.
func exporting(log events.Log, store *pebble.Store, checkpoint func(context.Context) ([]byte, error), to *slog.Logger) exporter {
	source := archivist.Source{
		Log: log, Reader: store, Prover: proof.NewProver(store.Chains), Checkpoint: checkpoint, Program: programVersion,
		Unsigned: func(err error) { to.Warn("an archive is written without a proof", "error", err) },
	}
	return func(ctx context.Context, r historian.ExportRange, w io.Writer) error {
		return source.Write(ctx, w, r.From, r.To)
	}
}

// fromStopped exports from the data directory of a cluster that does not run. It
// brings the projection there up to the log's end first.
func (o *exportOptions) fromStopped(ctx context.Context, export func(exporter, historian.ExportRange) error) (err error) {
	if _, err := os.Stat(o.LogDir()); err != nil {
		return fmt.Errorf("there is no log in the data directory %s: %w; say with --data-dir where one is", o.DataDir, err)
	}
	held, err := acquireLock(o.DataDir)
	if err != nil {
		return err
	}
	defer held.Close()
	quiet := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: o.LogDir(), Logger: quiet})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	log, err := jetstream.History(ctx, nc, jetstream.Config{})
	if err != nil {
		return err
	}
	store, err := pebble.Open(o.ProjectionDir(), pebble.Options{Log: quiet})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	folded, err := live.Start(ctx, blocks.ReadAhead(log, o.LogDir(), ""), live.Options{Store: store, Log: quiet})
	if err != nil {
		return fmt.Errorf("cannot fold the log: %w", err)
	}
	defer func() { err = errors.Join(err, folded.Close()) }()
	resolve := func(text string) (uint64, error) {
		p, err := history.ParsePoint(text, time.Now())
		if err != nil {
			return 0, err
		}
		return p.Resolve(store)
	}
	r, err := o.between(resolve)
	if err != nil {
		return err
	}
	return export(exporting(onFiles{log, o.LogDir()}, store, func(context.Context) ([]byte, error) { return o.newestOnDisk() }, quiet), r)
}
