package main

import (
	"context"

	"github.com/reprise-run/reprise/agents/historian"
)

// resolve finds the sequence of a point that a person has written on the command
// line: see history.ParsePoint.
func resolve(ctx context.Context, h *historian.Client, text string) (uint64, error) {
	_, sequence, err := new(selection).moment(ctx, h, text)
	return sequence, err
}
