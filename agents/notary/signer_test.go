package notary_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/agents/notary"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/proof"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// cluster is a log with its committer, projections and a notary.
type cluster struct {
	t     *testing.T
	log   *schematest.Log
	live  *live.Live
	store *pebble.Store
	com   *committer.Committer
	stop  func()
}

// start runs a cluster on a log, with a new projection.
func start(t *testing.T, log *schematest.Log) *cluster {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	store, err := pebble.Open(filepath.Join(t.TempDir(), "projection"), pebble.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l, err := live.Start(ctx, log, live.Options{Store: store, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, log: log, live: l, store: store, com: committer.New(log, l, committer.Options{})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.com.Run(ctx) }()
	<-c.com.Begun()
	c.stop = func() {
		cancel()
		<-ended
		<-l.Done()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
	return c
}

func (c *cluster) signer(dir string, also ...string) (*notary.Signer, error) {
	return notary.NewSigner(notary.SignerOptions{
		Dir: dir, Also: also, Folded: c.store.Folded, Chains: c.store.Chains, Projection: c.live, Proposer: c.com,
		Log: slog.New(slog.DiscardHandler), Version: "v1", Now: func() time.Time { return time.UnixMilli(5000) },
	})
}

func (c *cluster) mustSigner(dir string, also ...string) *notary.Signer {
	c.t.Helper()
	s, err := c.signer(dir, also...)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// put appends an event.
func (c *cluster) put() {
	c.t.Helper()
	n := c.live.View().Sequence()
	ref := events.Ref{Resource: "configmaps", Namespace: "shop", Name: fmt.Sprint("c", n)}
	r, err := c.com.Propose(c.t.Context(), events.Proposal{Actor: events.Actor{Kind: "api"}, Decision: events.Decision{Changes: []events.Change{{
		Type: "configmap.created", Object: ref, Data: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s","namespace":"shop","uid":"%d"}}`, ref.Name, n),
	}}}})
	if err == nil {
		err = c.live.Wait(c.t.Context(), r.Last)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) all() []events.Event {
	c.t.Helper()
	last, err := c.log.Last(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var all []events.Event
	for n := range last {
		e, err := c.log.Get(c.t.Context(), n+1)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func notes(t *testing.T, dir string) [][]byte {
	t.Helper()
	file, err := os.ReadFile(notary.CheckpointFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	all, rest := proof.Split(file)
	if len(rest) > 0 {
		t.Errorf("the file of checkpoints ends in %q", rest)
	}
	return all
}

// What is signed is in the log and in all files, holds, and goes on after a start
// with another projection.
func TestSigner(t *testing.T) {
	dir, also := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	c := start(t, schematest.NewLog(t))
	s := c.mustSigner(dir, also)
	c.put()
	var last []byte
	for round := range 6 {
		c.put()
		c.put()
		signed, err := s.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.Checkpoint(t.Context())
		if err != nil || !bytes.Equal(again, signed) {
			t.Errorf("nothing has happened, and there is another checkpoint (%v)\n%s", err, again)
		}
		last = signed
		switch round {
		case 1: // the next start finds everything
		case 2:
			if err := os.Remove(filepath.Join(dir, "tree")); err != nil {
				t.Fatal(err)
			}
		case 3: // a crash while the file was written
			f, err := os.OpenFile(notary.CheckpointFile(dir), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Write(signed[:len(signed)/2])
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		default:
			continue
		}
		c.stop()
		c = start(t, c.log)
		s = c.mustSigner(dir, also)
	}
	defer c.stop()
	v, err := note.NewVerifier(s.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	audit := proof.NewAudit(nil, v)
	audit.Take(c.all())
	if found := audit.End(); found != nil {
		t.Error(found)
	}
	if _, n := audit.Compared(); n != 6 {
		t.Errorf("%d checkpoints are recorded, not 6", n)
	}
	mine := notes(t, dir)
	if len(mine) != 6 || !bytes.Equal(mine[5], last) || !slices.EqualFunc(mine, notes(t, also), bytes.Equal) {
		t.Errorf("%d checkpoints are kept, not 6, or not the same in both directories", len(mine))
	}
	var held []proof.Held
	for i, n := range mine {
		checkpoint, err := proof.Open(n, v)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, proof.Held{Checkpoint: checkpoint, From: fmt.Sprint(i)})
	}
	audit = proof.NewAudit(held, v)
	audit.Take(c.all())
	if found := audit.End(); found != nil {
		t.Error(found)
	}
	if info, err := os.Stat(filepath.Join(dir, "key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secret key can be read by others (%v)", err)
	}
}

// Nothing is signed of a log that is not the one that was signed before.
func TestAlteredLogsAreNotSigned(t *testing.T) {
	dir := t.TempDir()
	c := start(t, schematest.NewLog(t))
	for range 5 {
		c.put()
	}
	if _, err := c.mustSigner(dir).Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := c.all()
	c.stop()
	for name, change := range map[string]func([]events.Event) []events.Event{
		"altered": func(all []events.Event) []events.Event { all[2].UID = "x"; return all },
		"lost":    func(all []events.Event) []events.Event { return all[:4] },
	} {
		changed := change(slices.Clone(all))
		var chain [32]byte
		for i := range changed {
			chain = events.Link(chain, &changed[i])
			changed[i].Chain = chain
		}
		log := schematest.NewLog(t)
		if _, err := log.Append(t.Context(), 0, changed); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "tree")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		c := start(t, log)
		if name == "altered" {
			c.put() // else there is nothing to sign
		}
		_, err := c.mustSigner(dir).Checkpoint(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no checkpoint is signed") || !strings.Contains(err.Error(), name) {
			t.Errorf("a log that was %s: %v", name, err)
		}
		c.stop()
	}
}

// The key is one thing, and its parts are not mixed with those of another.
func TestKeysAreNotMixed(t *testing.T) {
	c := start(t, schematest.NewLog(t))
	defer c.stop()
	one, two := t.TempDir(), t.TempDir()
	c.mustSigner(one)
	c.mustSigner(two)
	content, err := os.ReadFile(notary.VerifierFile(two))
	if err == nil {
		err = os.WriteFile(notary.VerifierFile(one), content, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.signer(one); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("a verifier was put in another's place: %v", err)
	}
	if _, err := c.signer(two, one); err != nil {
		t.Errorf("a directory that has its verifier: %v", err)
	}
	// One that was replaced stays trusted, and its successor is laid beside.
	if err := os.Remove(filepath.Join(two, "key")); err != nil {
		t.Fatal(err)
	}
	third := c.mustSigner(two, one)
	for _, dir := range []string{one, two} {
		now, err := os.ReadFile(notary.VerifierFile(dir))
		if err != nil || string(now) != string(content)+third.Verifier()+"\n" {
			t.Errorf("the keys in %s are %s, %v", dir, now, err)
		}
	}
	if _, err := c.signer(t.TempDir(), two); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("a directory with the checkpoints of another: %v", err)
	}
}

// Driven by the runner, it signs when it is due, and an idle log does not grow.
func TestNotaryRuns(t *testing.T) {
	c := start(t, schematest.NewLog(t))
	defer c.stop()
	s := c.mustSigner(t.TempDir())
	r := runner.New(notary.New(s.Object(), notary.Options{Events: 10, Interval: time.Hour}), runner.Options{
		Projection: c.live, Proposer: c.com, Gate: s, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Version: "v1",
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	c.put()
	signedAt := func() uint64 {
		e := c.live.View().Get(s.Object())
		if e == nil {
			return 0
		}
		return e.Sequence
	}
	changes, err := c.live.Changes(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if at := signedAt(); at > 10 {
			break
		} else if n < 12 {
			c.put()
		}
		if _, err := changes.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := s.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	end := c.live.View().Sequence()
	if again, err := s.Checkpoint(ctx); err != nil || !bytes.Equal(again, signed) || c.live.View().Sequence() != end {
		t.Errorf("an idle log has grown from %d to %d (%v)", end, c.live.View().Sequence(), err)
	}
}
