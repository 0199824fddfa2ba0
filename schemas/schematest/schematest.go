// Package schematest holds what tests append to a log against the schemas that
// integrators are given. Nothing but tests may import it.
package schematest

import (
	"context"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/schemas"
)

// Log is a log in memory that fails the test if an event is appended that is not
// as its schema says.
type Log struct {
	*memlog.Log
	t testing.TB
}

// NewLog returns an empty log.
func NewLog(t testing.TB) *Log { return &Log{Log: memlog.New(), t: t} }

// Append is events.Log's.
func (l *Log) Append(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	last, err := l.Log.Append(ctx, after, batch)
	if err == nil {
		for i, e := range batch {
			e.Sequence = after + uint64(i) + 1
			Check(l.t, &e)
		}
	}
	return last, err
}

// Check fails the test if the event, as it goes over NATS, is not as its schema
// says.
func Check(t testing.TB, e *events.Event) {
	t.Helper()
	if err := schemas.Check(e); err != nil {
		t.Error(err)
	}
	headers, _ := jetstream.Encode(e)
	if err := schemas.CheckHeaders(headers); err != nil {
		t.Errorf("%s: %v", e.Headline(), err)
	}
}
