package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/proof"
)

// logSubject is a log with its committer and its projection, and clients that
// propose.
type logSubject struct {
	book *ledger
	// volatile says that it is the log of volatile objects.
	volatile bool

	at   string // where the server listens
	seed string // the file of the key for it, "" for none

	checks, starts int // so far
}

// journals are how much servers have in a file of their journal: what a round writes, or
// a part of it.
var journals = []int{4 << 20, 256 << 10, 1 << 20}

func newLogSubject(volatile bool) *logSubject {
	return &logSubject{book: newLedger(volatile), volatile: volatile}
}

// start implements subject.
func (s *logSubject) start(dir string) (*process, error) {
	s.starts++
	cmd, err := role(s.serves(), dir, fmt.Sprint(journals[s.starts%len(journals)]))
	if err != nil {
		return nil, err
	}
	return startProcess(cmd)
}

// serves is what its process is told to be.
func (s *logSubject) serves() string {
	if s.volatile {
		return serveVolatile
	}
	return serveHistory
}

// ready implements subject.
func (s *logSubject) ready(ctx context.Context, p *process, _ string) error {
	line, err := p.line(ctx)
	if err != nil {
		return err
	}
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != "ready" {
		return fmt.Errorf("the server said %q", line)
	}
	s.at, s.seed = fields[1], fields[2]
	return nil
}

// load implements subject.
func (s *logSubject) load(ctx context.Context, name string, clients int, random *rand.Rand) (func(dead bool), error) {
	l, err := startLoad(ctx, s, name, clients, random)
	if err != nil {
		return nil, err
	}
	return l.stop, nil
}

// check implements subject: it reads the whole log as a client does, and as an
// auditor does from the files, has the projection compared, and goes on.
func (s *logSubject) check(ctx context.Context, p *process, dir string) error {
	return s.compare(ctx, p, filepath.Join(dir, "log"))
}

// compare does so; p is the process with the projection.
func (s *logSubject) compare(ctx context.Context, p *process, dir string) error {
	// A committer that lived through the fault decides first on what it still has.
	newest, err := s.goesOn(ctx)
	if err != nil {
		return err
	}
	all, err := s.read(ctx, newest)
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	if err := s.book.check(all); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.in, "verify"); err != nil {
		return err
	}
	if line, err := p.line(ctx); err != nil || !strings.HasPrefix(line, "identical") {
		return errors.Join(fmt.Errorf("verify: %s", line), err)
	}
	if s.volatile {
		return nil // it is no record, and nobody audits it
	}
	stream, err := blocks.OpenBeside(dir, "reprise")
	if err != nil {
		return err
	}
	audit := proof.NewAudit(nil)
	result, err := stream.Audit(ctx, audit, nil)
	switch {
	case err != nil:
		return fmt.Errorf("auditing the files: %w", err)
	case result.Finding != nil:
		return fmt.Errorf("auditing the files: %w", result.Finding)
	case audit.Taken() < uint64(len(all)):
		return fmt.Errorf("the files hold %d events, and the server tells of %d", audit.Taken(), len(all))
	}
	return nil
}

// client is one that proposes by a connection.
func (s *logSubject) client(nc *nats.Conn, name string, random *rand.Rand) *client {
	return &client{name: name, random: random, to: jetstream.NewRelay(nc, "reprise"), ledger: s.book, volatile: s.volatile}
}

// goesOn proposes until something is acknowledged, and returns the sequence of its last
// event.
func (s *logSubject) goesOn(ctx context.Context) (newest uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	nc, err := dial(s.at, s.seed)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	s.checks++
	c := s.client(nc, fmt.Sprint("check-", s.checks), rand.New(rand.NewPCG(uint64(s.checks), 0)))
	for {
		receipt, err := c.propose(ctx)
		if err == nil {
			return receipt.Last, nil
		}
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return 0, fmt.Errorf("nothing is acknowledged any more: %w", err)
		}
	}
}

// counts implements subject.
func (s *logSubject) counts() tally { return s.book.counts }

// close implements subject.
func (s *logSubject) close() error { return nil }

// open opens the log, be it the history's or the other.
func open(ctx context.Context, nc *nats.Conn, volatile bool, cfg jetstream.Config) (*jetstream.Log, error) {
	if volatile {
		return jetstream.Volatile(ctx, nc, cfg)
	}
	return jetstream.History(ctx, nc, cfg)
}

// read reads the log to its end, as another process. What was just acknowledged may
// be on its way into the stream (decision 0352), so it waits for the newest of that: if it
// does not come, the ledger tells.
func (s *logSubject) read(ctx context.Context, newest uint64) ([]events.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	nc, err := dial(s.at, s.seed)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	log, err := open(ctx, nc, s.volatile, jetstream.Config{})
	if err != nil {
		return nil, err
	}
	last, err := log.Last(ctx)
	for since := time.Now(); err == nil && last < newest && time.Since(since) < patience/2; {
		pause(ctx, time.Millisecond)
		last, err = log.Last(ctx)
	}
	if err != nil || last == 0 {
		return nil, err
	}
	reader, err := log.Follow(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var all []events.Event
	for len(all) == 0 || all[len(all)-1].Sequence < last {
		some, err := reader.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("after event %d of %d: %w", len(all), last, err)
		}
		all = append(all, some...)
	}
	return all, nil
}
