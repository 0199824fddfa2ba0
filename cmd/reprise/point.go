package main

import (
	"context"
	"time"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/projections/history"
)

// resolve finds the sequence of a point that a person has written on the command
// line: see history.ParsePoint.
func resolve(ctx context.Context, h *historian.Client, text string) (uint64, error) {
	p, err := history.ParsePoint(text, time.Now())
	if err != nil {
		return 0, err
	}
	return h.Resolve(ctx, p)
}
