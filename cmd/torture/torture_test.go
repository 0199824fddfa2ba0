//go:build e2e

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reprise-run/reprise/cmd/torture/disk"
	"github.com/reprise-run/reprise/events/jetstream"
)

// TestMain makes this binary a server where the torture starts it as one.
func TestMain(m *testing.M) {
	if words := os.Getenv(roleVariable); words != "" {
		if err := play(context.Background(), strings.Fields(words), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// lines gives what is written to the log of a test.
type lines struct{ t *testing.T }

// Write is io.Writer's.
func (l lines) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// The short form of `make torture`.
func TestTorture(t *testing.T) {
	if missing := disk.Missing(); missing != "" {
		t.Skipf("needs %s; then: make torture", missing)
	}
	for _, o := range []options{
		{of: ofLog, rounds: 6, seed: 4, age: 6},
		{of: ofVolatile, rounds: 4, seed: 3, age: 4},
		{of: ofExternal, rounds: 3, seed: 1, age: 3},
		{of: ofCluster, rounds: 3, seed: 2, age: 3, binary: "../../dist/bin/reprise"},
	} {
		t.Run(o.of, func(t *testing.T) {
			if err := torture(t.Context(), o, lines{t}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A decision that the disk could not be made to keep is not acknowledged, though the
// server can read it from its memory: all flushes fail from then on, or after one or two more.
func TestFailedFlush(t *testing.T) {
	if missing := disk.Missing(); missing != "" {
		t.Skipf("needs %s; then: make torture", missing)
	}
	for before := range 3 {
		t.Run(fmt.Sprint("after ", before), func(t *testing.T) { failedFlush(t, before) })
	}
}

func failedFlush(t *testing.T, before int) {
	random := rand.New(rand.NewPCG(uint64(before), 0))
	is := newLogSubject(false)
	r, err := newRack(t.Context(), t.TempDir(), is, random)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	nc, err := dial(is.at, is.seed)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := &client{name: "c", random: random, to: jetstream.NewRelay(nc, "reprise"), ledger: is.book}
	if _, err := c.propose(t.Context()); err != nil {
		t.Fatal(err)
	}
	var flushes atomic.Int64
	r.disk.SetTrouble(func(op disk.Op, _ int64, _ int) (time.Duration, bool) {
		return 0, op == disk.Flush && flushes.Add(1) > int64(before)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for err == nil && ctx.Err() == nil {
		_, err = c.propose(ctx)
	}
	if n := flushes.Load(); err == nil || ctx.Err() != nil || n <= int64(before) {
		t.Fatalf("after %d flushes, of which all but %d failed: %v, %v", n, before, err, ctx.Err())
	}
	if _, err := r.cut(disk.LoseAll, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := r.boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := is.check(t.Context(), r.server, r.fs.Dir); err != nil {
		t.Error(err)
	}
}
