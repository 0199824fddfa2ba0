package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/near"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
)

// serve is the process that is tortured: the log, its committer and its projection,
// put together as `reprise up` does, and nothing else. It says "ready ADDRESS
// SEEDFILE" when it takes proposals, answers the line "verify" with what came of
// comparing the projection with a rebuild, and ends with its input.
func serve(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	say := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(dir, "log"), Listen: "127.0.0.1:0", Logger: say})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	seed, err := server.AddUser("torture", jetstream.Permissions{Publish: []string{">"}, Subscribe: []string{">"}})
	if err != nil {
		return err
	}
	nc, err := server.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	history, err := jetstream.History(ctx, nc, jetstream.Config{AckTimeout: patient})
	if err != nil {
		return err
	}
	store, err := pebble.Open(filepath.Join(dir, "projection"), pebble.Options{Log: say, MemTable: 1 << 20})
	if err != nil {
		return err
	}
	defer store.Close()
	log := near.New(blocks.ReadAhead(history, filepath.Join(dir, "log"), ""), near.Options{})
	folded, err := live.Start(ctx, log, live.Options{Store: store, Log: say})
	if err != nil {
		return err
	}
	defer folded.Close()
	writer := committer.New(log, folded, committer.Options{Shape: projections.CheckShape})
	lease, err := jetstream.NewLease(nc, jetstream.Config{}, "committer", "torture")
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return lead(ctx, nc, lease, writer, say) })
	group.Go(func() error {
		select {
		case <-folded.Done():
			return folded.Err()
		case <-server.Failed():
			return server.Err()
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		select {
		case <-writer.Begun():
			fmt.Fprintln(out, "ready", server.Addr(), seed)
		case <-ctx.Done():
			return ctx.Err()
		}
		for lines := bufio.NewScanner(in); lines.Scan(); {
			fmt.Fprintln(out, verified(ctx, store, history, folded))
		}
		return errEnded
	})
	if err := group.Wait(); !errors.Is(err, errEnded) {
		return err
	}
	return nil
}

// lead runs the committer while it holds the lease.
func lead(ctx context.Context, nc *nats.Conn, lease events.Lease, writer *committer.Committer, say *slog.Logger) error {
	return committer.Elect(ctx, lease, func(ctx context.Context) error {
		stop, err := jetstream.ServeProposals(nc, "reprise", writer)
		if err != nil {
			return err
		}
		defer stop()
		return writer.Run(ctx)
	}, func(leading bool, why error) {
		if !leading {
			say.Warn("the committer has stopped", "why", why)
		}
	})
}

// patient is how long the server waits for the word of its log: less than usual, so
// that a round has time for what comes after that.
const patient = 300 * time.Millisecond

var errEnded = errors.New("the input has ended")

// verified is one line that says whether all is as a rebuild makes it.
func verified(ctx context.Context, store *pebble.Store, log pebble.Followed, folded *live.Live) string {
	report, err := store.Verify(ctx, log, folded.View())
	switch {
	case err != nil:
		return fmt.Sprintf("failed: %v", err)
	case !report.Identical():
		return "failed: " + report.Damage + report.Difference
	}
	return fmt.Sprintf("identical at %d", report.Sequence)
}
