package events

import (
	"context"
	"errors"
	"time"
)

// Lease elects one holder of a name among replicas. It lives in the log's own
// system, and is a convenience and not a guard: what keeps a deposed holder from
// doing harm is the fence of Log.Append and the expectations of its proposals.
//
// Implementations are used by one goroutine at a time per holder.
type Lease interface {
	// Acquire waits until nobody else holds the lease and takes it, for TTL
	// from now on.
	Acquire(ctx context.Context) error
	// Renew holds on to an acquired lease for another TTL. It fails with
	// ErrLeaseLost if it has expired or somebody else holds it; any other error
	// leaves it open whether the renewal took effect.
	Renew(ctx context.Context) error
	// Release gives the lease up, so that another need not wait for it to
	// expire. Releasing what is not held is no error.
	Release(ctx context.Context) error
	// Holder names who holds the lease now, "" if nobody does.
	Holder(ctx context.Context) (string, error)
	// TTL is how long the lease outlives its last renewal.
	TTL() time.Duration
}

// ErrLeaseLost says that the lease has passed to nobody or to somebody else.
var ErrLeaseLost = errors.New("the lease is no longer held")
