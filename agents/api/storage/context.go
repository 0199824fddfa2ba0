package storage

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/reprise-run/reprise/events"
)

// Deed is one command, given in this process, on its way through the API server.
type Deed struct {
	// Cause is the sequence of the event because of which it is done.
	Cause uint64
	// Basis, Now and Asked are those of the decision to give the command: see
	// events.Event.
	Basis uint64
	Now   time.Time
	Asked []byte

	written atomic.Uint64
}

// Written is the sequence of the last event that the command has led to, or 0.
func (d *Deed) Written() uint64 { return d.written.Load() }

type deedKey struct{}

// WithDeed says that what is written under the context is part of a deed. Only
// the in-process gate does: there is no way to claim a cause from outside.
func WithDeed(ctx context.Context, d *Deed) context.Context {
	return context.WithValue(ctx, deedKey{}, d)
}

func deedOf(ctx context.Context) *Deed {
	if d, ok := ctx.Value(deedKey{}).(*Deed); ok {
		return d
	}
	return &Deed{}
}

// statusOf turns a failure to append into what the API's client is told.
func statusOf(err error) error {
	var refused *events.RefusedError
	switch {
	case errors.As(err, &refused) && refused.Unwieldy:
		return apierrors.NewBadRequest(err.Error() + "; nothing was changed")
	case errors.As(err, &refused):
		return apierrors.NewInternalError(err)
	case errors.Is(err, events.ErrUncertain):
		return apierrors.NewTimeoutError(err.Error()+"; look before you try again", 1)
	case errors.Is(err, events.ErrUnavailable):
		return apierrors.NewServiceUnavailable(err.Error())
	}
	return err
}
