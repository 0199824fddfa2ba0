// Package live keeps a State in memory up to date with a log, for everybody in
// one process: it reads the log once, folds each decision whole, hands it to the
// durable projection, and tells those who wait. The API server reads and watches
// through it, runners follow it, the committer checks expectations against it.
// It never appends.
package live

import (
	"context"
	"errors"

	"github.com/reprise-run/reprise/projections"
)

// Projection is a State that follows a log.
type Projection interface {
	// View returns the cluster as of the last folded decision: an immutable
	// snapshot, cheap to take.
	View() projections.Reader
	// Wait returns once the projection has folded sequence.
	Wait(ctx context.Context, sequence uint64) error
	// Changes follows what is folded after a sequence. It fails with ErrTooOld
	// if that is further back than the recent changes kept in memory: take a
	// View and follow from there.
	Changes(ctx context.Context, after uint64) (Changes, error)
}

// Changes is a position in the recent changes. It is used by one goroutine.
type Changes interface {
	// Next waits for at least one change and returns all there are, in order.
	// It fails with ErrTooOld if the follower fell too far behind.
	Next(ctx context.Context) ([]projections.Change, error)
}

// ErrTooOld says that changes after the sequence asked for are no longer in
// memory.
var ErrTooOld = errors.New("changes so far back are not kept in memory; take a new view and follow from there")
