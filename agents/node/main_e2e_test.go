//go:build e2e

package node_test

import (
	"testing"

	"github.com/reprise-run/reprise/agents/node/apart"
)

// TestMain runs the tests apart, so that they leave nothing on the machine. The
// first test that needs the runtime says what down is.
func TestMain(m *testing.M) {
	apart.Main(m, apart.Options{Mounts: true, After: func() error { return down() }})
}
