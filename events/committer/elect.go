package committer

import (
	"context"
	"errors"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Elect calls run whenever this replica holds the lease, and ends run's context
// when it no longer does: with Committer.Run as run, that is failover. It stands
// for election again whatever ended run, a rival's append included, and returns
// only with ctx, whose error it returns, after run has ended and the lease is
// given up.
//
// report, unless nil, is told each time that run begins (true) and that it has
// ended, and why; and why the lease could not be had (false).
func Elect(ctx context.Context, lease events.Lease, run func(context.Context) error, report func(leading bool, why error)) error {
	if report == nil {
		report = func(bool, error) {}
	}
	for ctx.Err() == nil {
		if err := lease.Acquire(ctx); err != nil {
			if ctx.Err() == nil {
				report(false, err)
				pause(ctx, lease.TTL()/3)
			}
			continue
		}
		report(true, nil)
		why := whileHeld(ctx, lease, run)
		release(ctx, lease)
		report(false, why)
		if ctx.Err() == nil && !errors.Is(why, events.ErrLeaseLost) {
			pause(ctx, lease.TTL()/10)
		}
	}
	return ctx.Err()
}

// whileHeld renews the lease until run ends or the lease is lost. It steps down
// before a lease that cannot be renewed expires, so that the next holder does not
// begin while this one runs.
func whileHeld(ctx context.Context, lease events.Lease, run func(context.Context) error) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() { ended <- run(running) }()

	ttl := lease.TTL()
	held := time.Now()
	tick := time.NewTicker(ttl / 4)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if cause := context.Cause(running); cause != nil {
				return cause
			}
			return err
		case <-tick.C:
		}
		// A renewal is dated from before it was asked for, so that we never think
		// the lease ours for longer than the others do.
		asked := time.Now()
		attempt, cancel := context.WithTimeout(ctx, ttl/4)
		err := lease.Renew(attempt)
		cancel()
		switch {
		case err == nil:
			held = asked
		case errors.Is(err, events.ErrLeaseLost):
			stop(err)
		case time.Since(held) >= ttl*3/4:
			stop(events.ErrLeaseLost)
		}
	}
}

// release gives the lease up even when ctx has ended: that spares the next
// holder the wait.
func release(ctx context.Context, lease events.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease.TTL()/3)
	defer cancel()
	// Failing only means that the lease expires by itself.
	_ = lease.Release(ctx)
}
