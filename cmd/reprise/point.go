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
	_, sequence, err := resolvePoint(ctx, h, text)
	return sequence, err
}

// resolvePoint is resolve for those who also want to know whether it was a time.
func resolvePoint(ctx context.Context, h *historian.Client, text string) (history.Point, uint64, error) {
	p, err := history.ParsePoint(text, time.Now())
	if err != nil {
		return p, 0, err
	}
	sequence, err := h.Resolve(ctx, p)
	return p, sequence, err
}
