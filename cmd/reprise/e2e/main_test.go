//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/agents/node/apart"
)

// TestMain runs the tests in a network namespace of their own. Tests that run in
// parallel wait for containers most of the time.
func TestMain(m *testing.M) {
	apart.Main(m, apart.Options{Arguments: []string{"-test.parallel=8"}})
}

// repository is the checkout's root, and binaries where `make build tools` puts
// what the tests run.
func repository() string {
	wd, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return filepath.Join(wd, "..", "..", "..")
}

func binaries() string { return filepath.Join(repository(), "dist", "bin") }
