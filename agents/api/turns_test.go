package api

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// A command waits for its turn, and no longer than its caller does.
func TestCommandsTakeTurns(t *testing.T) {
	g := gate{&Server{queue: newQueue(1, 1)}}
	g.server.queue.turns <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Do(ctx, events.Actor{}, runner.Command{Verb: runner.Create}); !errors.Is(err, context.Canceled) {
		t.Errorf("a command without a turn: %v", err)
	}
	<-g.server.queue.turns
	// It has its turn, and gives it back though it is refused.
	for range 2 {
		if _, err := g.Do(t.Context(), events.Actor{}, runner.Command{Verb: "ponder"}); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("a command that is none: %v", err)
		}
	}
}

// An actor whose commands all hang leaves turns to the others.
func TestActorsLeaveTurnsToOthers(t *testing.T) {
	q := newQueue(turns, share)
	hanging, other := events.Actor{Kind: "controller", Name: "replicaset"}, events.Actor{Kind: "controller", Name: "garbage"}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var begun []func()
	for range share {
		done, err := q.take(t.Context(), hanging)
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, done)
	}
	if _, err := q.take(over, hanging); !errors.Is(err, context.Canceled) {
		t.Fatalf("one actor has more than its share of %d turns: %v", share, err)
	}
	soon, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	for range max(1, turns-share) {
		done, err := q.take(soon, other)
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, done)
	}
	// All are taken. Who gives up waiting gives back its share.
	for range share {
		if _, err := q.take(over, events.Actor{Kind: "scheduler"}); !errors.Is(err, context.Canceled) {
			t.Fatalf("a turn too many: %v", err)
		}
	}
	for _, done := range begun {
		done()
	}
	if n := len(q.turns) + len(q.of(hanging.String())) + len(q.of(other.String())) + len(q.of("scheduler")); n != 0 {
		t.Errorf("%d turns are not given back", n)
	}
}
