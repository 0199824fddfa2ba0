package podgc_test

import (
	"testing"

	"github.com/reprise-run/reprise/agents/controllers/podgc"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
)

func TestTranscripts(t *testing.T) {
	runnertest.Run(t, "testdata", podgc.New(podgc.Options{Ended: 2}))
}
