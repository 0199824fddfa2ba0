package nodelifecycle_test

import (
	"testing"

	"github.com/reprise-run/reprise/agents/controllers/nodelifecycle"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
)

func TestTranscripts(t *testing.T) {
	runnertest.Run(t, "testdata", nodelifecycle.New(nodelifecycle.Options{Since: runnertest.Epoch}))
}
