package api

import (
	"context"
	"errors"
	"testing"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// A command waits for its turn, and no longer than its caller does.
func TestCommandsTakeTurns(t *testing.T) {
	g := gate{&Server{turns: make(chan struct{}, 1)}}
	g.server.turns <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Do(ctx, events.Actor{}, runner.Command{Verb: runner.Create}); !errors.Is(err, context.Canceled) {
		t.Errorf("a command without a turn: %v", err)
	}
	<-g.server.turns
	// It has its turn, and gives it back though it is refused.
	for range 2 {
		if _, err := g.Do(t.Context(), events.Actor{}, runner.Command{Verb: "ponder"}); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("a command that is none: %v", err)
		}
	}
}
