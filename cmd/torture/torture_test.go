//go:build e2e

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/cmd/torture/disk"
)

// TestMain makes this binary a server where the torture starts it as one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDir); dir != "" {
		if err := serve(context.Background(), dir, os.Stdin, os.Stdout); err != nil {
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
	if err := torture(t.Context(), options{rounds: 10, seed: 4, age: 10}, lines{t}); err != nil {
		t.Fatal(err)
	}
}
