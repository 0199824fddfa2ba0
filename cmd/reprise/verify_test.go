package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/agents/notary"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/proof/prooftest"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
)

// dataDir is a data directory with a log, its projection and its checkpoints, and no
// containers.
type dataDir struct {
	t    testing.TB
	env  *environment
	next func() (events.Event, bool)
}

func newDataDir(t testing.TB) *dataDir {
	g := eventsgen.New(eventsgen.Options{Seed: 5, Events: 1 << 20, Pods: 20})
	return &dataDir{t, &environment{DataDir: t.TempDir()}, g.Next}
}

// run has a server on the directory append n events and sign a checkpoint, and then
// calls do while it runs.
func (d *dataDir) run(n int, do func(l *live.Live, store *pebble.Store)) {
	d.t.Helper()
	check := func(err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
	}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: d.env.LogDir(), UnsafeNoSync: true})
	check(err)
	defer server.Shutdown()
	nc, err := server.Connect()
	check(err)
	defer nc.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log, err := jetstream.History(ctx, nc, jetstream.Config{})
	check(err)
	quiet := slog.New(slog.DiscardHandler)
	store, err := pebble.Open(d.env.ProjectionDir(), pebble.Options{Log: quiet})
	check(err)
	l, err := live.Start(ctx, log, live.Options{Store: store, Log: quiet})
	check(err)
	com := committer.New(log, l, committer.Options{})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = com.Run(ctx) }()
	<-com.Begun()
	for more := true; n > 0 || more; n-- {
		e, ok := d.next()
		if !ok {
			d.t.Fatal("the generator has no more events")
		}
		more = e.More
		r, err := com.Propose(ctx, events.Proposal{Actor: e.Actor, Decision: events.Decision{Changes: []events.Change{{
			Type: e.Type, Object: e.Object, UID: e.UID, Data: e.Data, Note: e.Note, Optional: e.Optional,
		}}}})
		check(err)
		check(l.Wait(ctx, r.Last))
	}
	signer, err := notary.NewSigner(notary.SignerOptions{
		Dir: d.env.ProofDir(), Folded: store.Folded, Chains: store.Chains, Projection: l, Proposer: com, Log: quiet,
	})
	check(err)
	_, err = signer.Checkpoint(ctx)
	check(err)
	if do != nil {
		do(l, store)
	}
	cancel()
	<-ended
	<-l.Done()
	check(store.Close())
}

// verify runs reprise verify --offline on a directory.
func verifyOffline(t testing.TB, dir string, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	m := &Main{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out}
	err := m.Run(t.Context(), append([]string{"--data-dir", dir, "--run-dir", dir, "verify", "--offline"}, args...))
	return out.String(), err
}

// copied is a copy of a directory, as a crash leaves it if the server runs.
func copied(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // while a server works
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, dir))
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// Whatever happens to an honest cluster, nothing is found.
func TestIntactDirectoriesAreNeverAccused(t *testing.T) {
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 0))
		d := newDataDir(t)
		var kept string // what an auditor took away at first
		for round := range 5 {
			what := "started again"
			switch r.IntN(5) {
			case 0:
				what = "without its projection"
				if err := os.RemoveAll(d.env.ProjectionDir()); err != nil {
					t.Fatal(err)
				}
			case 1:
				what = "without the tree"
				if err := os.RemoveAll(filepath.Join(d.env.ProofDir(), "tree")); err != nil {
					t.Fatal(err)
				}
			}
			var clone string
			d.run(1+r.IntN(60), func(*live.Live, *pebble.Store) {
				if r.IntN(2) == 0 {
					what += ", and cloned while it ran"
					clone = copied(t, d.env.DataDir)
				}
			})
			if round == 0 {
				kept = filepath.Join(t.TempDir(), "kept")
				content, err := os.ReadFile(notary.CheckpointFile(d.env.ProofDir()))
				if err == nil {
					err = os.WriteFile(kept, content[:len(content)-1], 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, dir := range []string{d.env.DataDir, clone} {
				if dir == "" {
					continue
				}
				out, err := verifyOffline(t, dir, "--checkpoint", kept, "--key", notary.VerifierFile(d.env.ProofDir()))
				if err != nil || !strings.Contains(out, "identical") || strings.Contains(out, "note ") {
					t.Errorf("seed %d, round %d, %s: %v\n%s", seed, round, what, err, out)
				}
			}
		}
	}
}

// What is altered on disk is named, and verifying alters nothing.
func TestAlteredDirectories(t *testing.T) {
	d := newDataDir(t)
	d.run(80, nil)
	d.run(80, nil)
	block, err := filepath.Glob(filepath.Join(d.env.LogDir(), "jetstream", "*", "streams", "REPRISE", "msgs", "*.blk"))
	if err != nil || len(block) != 1 {
		t.Fatalf("%d blocks (%v)", len(block), err)
	}
	inLog, err := filepath.Rel(d.env.DataDir, block[0])
	if err != nil {
		t.Fatal(err)
	}
	other := newDataDir(t)
	other.run(170, nil)
	kept := copied(t, d.env.ProofDir())
	auditor := []string{"--checkpoint", kept, "--key", notary.VerifierFile(kept)}
	for _, c := range []struct {
		name   string
		change func(dir string)
		want   string
	}{
		{"a name in an event", func(dir string) {
			rewriteFile(t, filepath.Join(dir, inLog), func(b []byte) []byte {
				return []byte(strings.Replace(string(b), "storage.example.org", "storage.example.erg", 1))
			})
		}, `first bad sequence is 1:`},
		{"the end of the log", func(dir string) {
			rewriteFile(t, filepath.Join(dir, inLog), func(b []byte) []byte { return b[:len(b)/2] })
		}, "are missing"},
		{"the whole log, for another that is of one piece", func(dir string) {
			replaceDir(t, filepath.Join(dir, "log"), other.env.LogDir())
		}, "they were written anew"},
		{"everything, key and checkpoints too", func(dir string) { replaceDir(t, dir, other.env.DataDir) }, "the one to trust is"},
		{"the key", func(dir string) {
			replaceDir(t, filepath.Join(dir, "proof"), other.env.ProofDir())
		}, "it was replaced"},
		{"a checkpoint", func(dir string) {
			rewriteFile(t, filepath.Join(dir, "proof", "checkpoints"), func(b []byte) []byte {
				return []byte(strings.Replace(string(b), "chain ", "chain 0", 1))
			})
		}, "cannot be trusted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copied(t, d.env.DataDir)
			c.change(dir)
			before := tree(t, dir)
			out, err := verifyOffline(t, dir, auditor...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("verify says %v, and not %q\n%s", err, c.want, out)
			}
			if after := tree(t, dir); after != before {
				t.Errorf("verifying has changed the directory:\n%s\nwas\n%s", after, before)
			}
		})
	}
}

// Whichever of the projection's tables is altered, that is what is said.
func TestAlteredTables(t *testing.T) {
	d := newDataDir(t)
	var tables []string
	for n := 0; len(tables) < 2; n++ { // Pebble makes one of two when it likes.
		if n == 10 {
			t.Fatalf("%d tables", len(tables))
		}
		d.run(40, nil)
		var err error
		if tables, err = filepath.Glob(filepath.Join(d.env.ProjectionDir(), "*.sst")); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range tables {
		content, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		rewriteFile(t, table, func(b []byte) []byte { b[100] ^= 1; return b })
		if out, err := verifyOffline(t, d.env.DataDir); err == nil || !strings.Contains(err.Error(), "the projection is damaged") {
			t.Errorf("%s: verify says %v\n%s", table, err, out)
		}
		rewriteFile(t, table, func([]byte) []byte { return content })
	}
}

// A key that its owner replaces is no alteration, and who does not know the new one is
// told what to decide.
func TestReplacedKeys(t *testing.T) {
	d := newDataDir(t)
	d.run(30, nil)
	first := filepath.Join(copied(t, d.env.ProofDir()), "verifier")
	if err := os.Remove(filepath.Join(d.env.ProofDir(), "key")); err != nil {
		t.Fatal(err)
	}
	d.run(30, nil)
	d.run(30, nil)
	both := notary.VerifierFile(d.env.ProofDir())
	for name, args := range map[string][]string{
		"what the directory has": nil, "the file of both": {"--key", both}, "each": {"--key", first, "--key", both},
	} {
		if out, err := verifyOffline(t, d.env.DataDir, args...); err != nil || !strings.Contains(out, "3 held and 3 recorded in the log agree") {
			t.Errorf("with %s: %v\n%s", name, err, out)
		}
	}
	out, err := verifyOffline(t, d.env.DataDir, "--key", first)
	if err == nil || strings.Contains(err.Error(), "altered") || !strings.Contains(out, "1 held and 1 recorded in the log agree") {
		t.Errorf("with the first key alone: %v\n%s", err, out)
	}
	for _, part := range []string{"the log is whole", "records checkpoints (2)", "if its owner replaced the key, give that one by --key as well", "(2 of 3)"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("with the first key alone it does not say %q: %v", part, err)
		}
	}
}

func rewriteFile(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(content), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func replaceDir(t *testing.T, dir, by string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.Rename(copied(t, by), dir)); err != nil {
		t.Fatal(err)
	}
}

// tree lists the files of a directory with their sizes and times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			b.WriteString(strings.TrimPrefix(path, dir) + " " + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Whatever bit of the projection is flipped, it is found or changes nothing, and
// nothing crashes.
func TestFlipsInTheProjection(t *testing.T) {
	d := newDataDir(t)
	d.run(60, nil)
	dir := d.env.ProjectionDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(e.Name(), func(t *testing.T) {
			prooftest.Flip(t, 1, content, 60, func(_ prooftest.Bit, flipped []byte) prooftest.Verdict {
				rewriteFile(t, path, func([]byte) []byte { return flipped })
				out, err := verifyOffline(t, d.env.DataDir)
				return prooftest.Verdict{Accused: err != nil, Same: strings.Contains(out, "identical")}
			})
		})
		rewriteFile(t, path, func([]byte) []byte { return content })
	}
}

// Whatever bit of what proves the log is flipped, it is found, or said, or changes
// nothing.
func TestFlipsInProofs(t *testing.T) {
	d := newDataDir(t)
	d.run(20, nil)
	d.run(20, nil)
	intact, err := verifyOffline(t, d.env.DataDir, "--log-only")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"checkpoints", "verifier", "tree", "key"} {
		path := filepath.Join(d.env.ProofDir(), name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			prooftest.Flip(t, 1, content, 600, func(_ prooftest.Bit, flipped []byte) prooftest.Verdict {
				rewriteFile(t, path, func([]byte) []byte { return flipped })
				out, err := verifyOffline(t, d.env.DataDir, "--log-only")
				return prooftest.Verdict{Accused: err != nil || strings.Contains(out, "note "), Same: out == intact}
			})
		})
		rewriteFile(t, path, func([]byte) []byte { return content })
	}
}

// What an auditor gives that is none is refused before anything is read.
func TestBadEvidenceIsRefused(t *testing.T) {
	d := newDataDir(t)
	d.run(5, nil)
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := newDataDir(t)
	other.run(5, nil)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--key", "nonsense"}, `--key "nonsense" is neither a public key`},
		{[]string{"--key", junk}, "holds no public key"},
		{[]string{"--checkpoint", junk}, "holds no signed checkpoint"},
		{[]string{"--checkpoint", junk + "-not-there"}, "no such file"},
		{[]string{"--checkpoint", other.env.ProofDir()}, "signed by the key"},
	} {
		if out, err := verifyOffline(t, d.env.DataDir, c.args...); err == nil || !strings.Contains(err.Error(), c.want) || out != "" {
			t.Errorf("verify %v: %v\n%s", c.args, err, out)
		}
	}
	if _, err := verifyOffline(t, t.TempDir()); err == nil || !strings.Contains(err.Error(), "no log of Reprise") {
		t.Errorf("an empty directory: %v", err)
	}
	out, err := verifyOffline(t, d.env.DataDir, "--log-only")
	if err != nil || !regexp.MustCompile(`checkpoints 1 held and 1 recorded`).MatchString(out) {
		t.Errorf("--log-only: %v\n%s", err, out)
	}
}
