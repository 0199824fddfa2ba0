package recorder

import (
	"testing"

	"github.com/reprise-run/reprise/agents/runner/runnertest"
)

func TestTranscripts(t *testing.T) { runnertest.Run(t, "testdata", New()) }
