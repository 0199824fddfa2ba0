package committer

import (
	"context"
	"time"
)

// Timing is how a committer waits.
type Timing interface {
	// Sleep returns after a time, or when ctx ends.
	Sleep(ctx context.Context, d time.Duration)
	// Timeout is context.WithTimeout.
	Timeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
}

type realTiming struct{}

func (realTiming) Sleep(ctx context.Context, d time.Duration) { pause(ctx, d) }

func (realTiming) Timeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}

// pause returns after a time, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
