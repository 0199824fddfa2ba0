package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
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

// The processes that are tortured are this program too, told by its environment what
// to be: "serve DIR", "nats DIR ADDRESS" or "commit DIR ADDRESS".
const roleVariable = "REPRISE_TORTURE_ROLE"

// role returns a command that runs this program as one of its processes.
func role(words ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join(words, " "))
	return cmd, nil
}

// play is such a process. It says "ready ..." and ends with its input.
func play(ctx context.Context, words []string, in io.Reader, out io.Writer) error {
	say := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	switch {
	case len(words) == 3 && words[0] == "serve":
		journal, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			return err
		}
		return serve(ctx, words[1], journal, say, in, out)
	case len(words) == 3 && words[0] == "nats":
		return serveNATS(words[1], words[2], in, out)
	case len(words) == 3 && words[0] == "commit":
		return commit(ctx, words[1], words[2], say, in, out)
	}
	return fmt.Errorf("%s=%q is no process of this program", roleVariable, words)
}

// serve is a log with its committer and its projection, put together as `reprise
// server` does, and nothing else.
func serve(ctx context.Context, dir string, journal int64, say *slog.Logger, in io.Reader, out io.Writer) error {
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(dir, "log"), Listen: "127.0.0.1:0", Logger: say, Journal: journal})
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
	c := cell{
		nc: nc, history: history, log: blocks.ReadAhead(history, filepath.Join(dir, "log"), ""), dir: dir, say: say, singly: -1,
		ready: fmt.Sprint("ready ", server.Addr(), " ", seed), failed: server.Failed(), why: server.Err,
	}
	return c.run(ctx, in, out)
}

// serveNATS is NATS as people run it, but for the syncs.
func serveNATS(dir, address string, in io.Reader, out io.Writer) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	opts := &server.Options{Host: host, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, MaxPayload: 8 << 20, JetStreamMaxStore: 1 << 40}
	if opts.Port, err = strconv.Atoi(port); err != nil {
		return err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		return fmt.Errorf("NATS does not get ready on %s", address)
	}
	fmt.Fprintln(out, "ready", address)
	_, err = io.Copy(io.Discard, in)
	return err
}

// commit is a committer and a projection beside NATS, which is elsewhere.
func commit(ctx context.Context, dir, address string, say *slog.Logger, in io.Reader, out io.Writer) error {
	nc, err := jetstream.Connect("nats://" + address)
	if err != nil {
		return err
	}
	defer nc.Close()
	history, err := jetstream.History(ctx, nc, jetstream.Config{AckTimeout: patient})
	if err != nil {
		return err
	}
	c := cell{nc: nc, history: history, log: history, dir: dir, say: say, ready: "ready", why: func() error { return nil }}
	return c.run(ctx, in, out)
}

// cell is what goes with a log.
type cell struct {
	nc      *nats.Conn
	history *jetstream.Log
	log     events.Log // history, as it is followed
	dir     string
	say     *slog.Logger
	singly  int             // see committer.Options
	ready   string          // what to say when all is
	failed  <-chan struct{} // closed when the log's disk has failed
	why     func() error
}

// run says that it is ready when it takes proposals, answers the line "verify" with
// what came of comparing the projection with a rebuild, and ends with its input.
func (c *cell) run(ctx context.Context, in io.Reader, out io.Writer) error {
	store, err := pebble.Open(filepath.Join(c.dir, "projection"), pebble.Options{Log: c.say, MemTable: 1 << 20})
	if err != nil {
		return err
	}
	defer store.Close()
	log := near.New(c.log, near.Options{})
	folded, err := live.Start(ctx, log, live.Options{Store: store, Log: c.say})
	if err != nil {
		return err
	}
	defer folded.Close()
	writer := committer.New(log, folded, committer.Options{Shape: projections.CheckShape, Singly: c.singly})
	lease, err := jetstream.NewLease(c.nc, jetstream.Config{}, "committer", "torture")
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.lead(ctx, lease, writer) })
	group.Go(func() error {
		select {
		case <-folded.Done():
			return folded.Err()
		case <-c.failed:
			return c.why()
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		select {
		case <-writer.Begun():
			fmt.Fprintln(out, c.ready)
		case <-ctx.Done():
			return ctx.Err()
		}
		for lines := bufio.NewScanner(in); lines.Scan(); {
			fmt.Fprintln(out, verified(ctx, store, c.history, folded))
		}
		return errEnded
	})
	if err := group.Wait(); !errors.Is(err, errEnded) {
		return err
	}
	return nil
}

// lead runs the committer while it holds the lease.
func (c *cell) lead(ctx context.Context, lease events.Lease, writer *committer.Committer) error {
	return committer.Elect(ctx, lease, func(ctx context.Context) error {
		stop, err := jetstream.ServeProposals(c.nc, "reprise", writer, nil)
		if err != nil {
			return err
		}
		defer stop()
		return writer.Run(ctx)
	}, func(leading bool, why error) {
		if !leading {
			c.say.Warn("the committer has stopped", "why", why)
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
