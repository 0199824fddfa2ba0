package deployment_test

import (
	"testing"

	"github.com/reprise-run/reprise/agents/controllers/deployment"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
)

func TestTranscripts(t *testing.T) { runnertest.Run(t, "testdata", deployment.New()) }
