package storage

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/reprise-run/reprise/events"
)

type causeKey struct{}

// WithCause says that what is written under the context is done because of the
// event with that sequence. Only the in-process gate sets it: there is no way to
// claim a cause from outside.
func WithCause(ctx context.Context, sequence uint64) context.Context {
	return context.WithValue(ctx, causeKey{}, sequence)
}

func causeOf(ctx context.Context) uint64 {
	sequence, _ := ctx.Value(causeKey{}).(uint64)
	return sequence
}

// statusOf turns a failure to append into what the API's client is told.
func statusOf(err error) error {
	var refused *events.RefusedError
	switch {
	case errors.As(err, &refused):
		return apierrors.NewInternalError(err)
	case errors.Is(err, events.ErrUncertain):
		return apierrors.NewTimeoutError(err.Error()+"; look before you try again", 1)
	case errors.Is(err, events.ErrUnavailable):
		return apierrors.NewServiceUnavailable(err.Error())
	}
	return err
}
