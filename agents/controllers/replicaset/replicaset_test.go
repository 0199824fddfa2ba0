package replicaset_test

import (
	"testing"

	"github.com/reprise-run/reprise/agents/controllers/replicaset"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
)

func TestTranscripts(t *testing.T) { runnertest.Run(t, "testdata", replicaset.New()) }
