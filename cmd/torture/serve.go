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
// to be: "serve DIR JOURNAL", "serve-volatile DIR JOURNAL", "nats DIR ADDRESS" or "commit DIR ADDRESS".
const (
	roleVariable = "REPRISE_TORTURE_ROLE"

	serveHistory  = "serve"
	serveVolatile = "serve-volatile"
)

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
	case len(words) == 3 && (words[0] == serveHistory || words[0] == serveVolatile):
		journal, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			return err
		}
		return serve(ctx, words[1], journal, words[0] == serveVolatile, say, in, out)
	case len(words) == 3 && words[0] == "nats":
		return serveNATS(words[1], words[2], in, out)
	case len(words) == 3 && words[0] == "commit":
		return commit(ctx, words[1], words[2], say, in, out)
	}
	return fmt.Errorf("%s=%q is no process of this program", roleVariable, words)
}

// serve is a log with its committer and its projection, put together as `reprise
// server` does with its history or with the volatile log, and nothing else.
func serve(ctx context.Context, dir string, journal int64, volatile bool, say *slog.Logger, in io.Reader, out io.Writer) error {
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
	log, err := open(ctx, nc, volatile, jetstream.Config{AckTimeout: patient})
	if err != nil {
		return err
	}
	c := cell{
		nc: nc, stream: log, log: log, dir: dir, say: say, options: committer.Options{Volatile: true, Shape: projections.CheckShape, Gather: 50 * time.Millisecond, Group: events.MaxBatch},
		ready: fmt.Sprint("ready ", server.Addr(), " ", seed), failed: server.Failed(), why: server.Err,
	}
	if !volatile {
		c.log, c.options = blocks.ReadAhead(log, filepath.Join(dir, "log"), ""), ofHistory
	}
	return c.run(ctx, in, out)
}

// ofHistory are the options of the committer of a history.
var ofHistory = committer.Options{Shape: projections.CheckShape, Singly: -1}

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
	c := cell{nc: nc, stream: history, log: history, dir: dir, say: say, options: ofHistory, ready: "ready", why: func() error { return nil }}
	return c.run(ctx, in, out)
}

// cell is what goes with a log.
type cell struct {
	nc      *nats.Conn
	stream  *jetstream.Log
	log     events.Log // stream, as it is followed
	dir     string
	say     *slog.Logger
	options committer.Options
	ready   string          // what to say when all is
	failed  <-chan struct{} // closed when the log's disk has failed
	why     func() error
}

// run says that it is ready when it takes proposals, answers the line "verify" with
// what came of comparing the projection with a rebuild, and ends with its input.
func (c *cell) run(ctx context.Context, in io.Reader, out io.Writer) error {
	log := near.New(c.log, near.Options{})
	folded, verify, done, err := c.fold(ctx, log)
	if err != nil {
		return err
	}
	defer done()
	writer := committer.New(log, folded, c.options)
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
			fmt.Fprintln(out, verify(ctx))
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

// fold starts the projections that a server has of the log, and returns the one in memory,
// what says whether they are as a rebuild makes them, and what closes them.
func (c *cell) fold(ctx context.Context, log events.Log) (folded *live.Live, verify func(context.Context) string, done func(), err error) {
	if c.options.Volatile {
		folded, err = live.Start(ctx, log, live.Options{Volatile: true, Log: c.say})
		if err != nil {
			return nil, nil, nil, err
		}
		return folded, func(ctx context.Context) string { return foldedAnew(ctx, c.stream, folded) }, func() { _ = folded.Close() }, nil
	}
	store, err := pebble.Open(filepath.Join(c.dir, "projection"), pebble.Options{Log: c.say, MemTable: 1 << 20})
	if err != nil {
		return nil, nil, nil, err
	}
	folded, err = live.Start(ctx, log, live.Options{Store: store, Log: c.say})
	if err != nil {
		return nil, nil, nil, errors.Join(err, store.Close())
	}
	verify = func(ctx context.Context) string { return verified(ctx, store, c.stream, folded) }
	// What the store fails with is told by what is found in it.
	return folded, verify, func() { _, _ = folded.Close(), store.Close() }, nil
}

// foldedAnew is verified for the volatile log, of which nothing is on disk but itself.
func foldedAnew(ctx context.Context, log events.Log, folded *live.Live) string {
	anew, err := live.Start(ctx, log, live.Options{Volatile: true})
	if err != nil {
		return fmt.Sprintf("failed: %v", err)
	}
	defer anew.Close()
	// Something may still be appended, and either may be the first to fold it.
	for {
		ours, is := folded.View(), anew.View()
		last := max(ours.Sequence(), is.Sequence())
		if err := errors.Join(folded.Wait(ctx, last), anew.Wait(ctx, last)); err != nil {
			return fmt.Sprintf("failed: %v", err)
		}
		switch ours, is = folded.View(), anew.View(); {
		case ours.Sequence() != is.Sequence():
			continue
		case projections.Hash(is) != projections.Hash(ours):
			return fmt.Sprintf("failed: at %d it is not what a rebuild makes of all", ours.Sequence())
		}
		return fmt.Sprintf("identical at %d", ours.Sequence())
	}
}

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
