// Package lease runs a function for as long as a lease is held. The runner calls
// it. It never decides who leads; that is the events.Lease's business.
package lease

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/events"
)

// Hold acquires the lease and calls lead, whose context ends when the lease is
// lost; then it starts over. It returns when ctx ends, or with lead's error if
// lead fails while it holds the lease.
func Hold(ctx context.Context, l events.Lease, c clock.Clock, log *slog.Logger, lead func(context.Context) error) error {
	for {
		if err := l.Acquire(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			log.Warn("cannot acquire the lease; trying again", "error", err)
			if err := pause(ctx, c, l.TTL()/3); err != nil {
				return err
			}
			continue
		}
		log.Info("leading")
		lost, err := hold(ctx, l, c, log, lead)
		if !lost {
			return err
		}
		log.Info("no longer leading")
	}
}

// hold calls lead beside the renewals, and says whether the lease was lost.
func hold(ctx context.Context, l events.Lease, c clock.Clock, log *slog.Logger, lead func(context.Context) error) (lost bool, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- lead(ctx) }()
	held := c.Now()
	for {
		t := c.NewTimer(l.TTL() / 3)
		select {
		case err := <-ended:
			t.Stop()
			release(ctx, l, log)
			return false, err
		case <-t.C():
		}
		err := l.Renew(ctx)
		if err == nil {
			held = c.Now()
			continue
		}
		if ctx.Err() == nil && (errors.Is(err, events.ErrLeaseLost) || c.Since(held) >= l.TTL()) {
			log.Warn("lost the lease", "error", err)
			stop()
			<-ended
			return true, nil
		}
	}
}

// release gives the lease up even though the context has ended.
func release(ctx context.Context, l events.Lease, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := l.Release(ctx); err != nil {
		log.Debug("cannot release the lease; it will expire", "error", err)
	}
}

func pause(ctx context.Context, c clock.Clock, d time.Duration) error {
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
