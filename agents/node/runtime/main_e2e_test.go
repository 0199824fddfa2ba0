//go:build e2e

package runtime_test

import (
	"testing"

	"github.com/reprise-run/reprise/agents/node/apart"
)

// TestMain runs the tests apart, so that they see exactly what the runtime leaves
// behind, and the machine nothing.
func TestMain(m *testing.M) { apart.Main(m, apart.Options{Mounts: true}) }
