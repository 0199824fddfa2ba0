// Package storagetest gives tests of the API a log with a committer and a
// projection, all in memory. Nothing but tests may import it.
package storagetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// Log is a log in memory with all that an API server needs of one.
type Log struct {
	*live.Live
	Events *schematest.Log

	committer *committer.Committer
	failure   atomic.Pointer[error]
	lose      atomic.Bool
}

// NewLog returns an empty log, for volatile objects or for the history.
func NewLog(t testing.TB, volatile bool) *Log {
	t.Helper()
	return newLog(t, live.Options{Volatile: volatile})
}

// NewShortLog returns an empty log of the history with a projection that keeps few
// changes for who follows it.
func NewShortLog(t testing.TB, recent int) *Log {
	t.Helper()
	return newLog(t, live.Options{Recent: recent})
}

// NewStoredLog returns an empty log of the history with a durable projection.
func NewStoredLog(t testing.TB, store live.Store) *Log {
	t.Helper()
	return newLog(t, live.Options{Store: store})
}

func newLog(t testing.TB, o live.Options) *Log {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := schematest.NewLog(t)
	projection, err := live.Start(ctx, log, o)
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{Live: projection, Events: log, committer: committer.New(log, projection, committer.Options{Volatile: o.Volatile})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.committer.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-projection.Done()
	})
	return l
}

// Source is the log as storage wants it.
func (l *Log) Source() storage.Source { return storage.Source{Projection: l.Live, Proposer: l} }

// Propose implements events.Proposer.
func (l *Log) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	if err := l.failure.Load(); err != nil && *err != nil {
		return events.Receipt{}, *err
	}
	if l.lose.CompareAndSwap(true, false) {
		_, _ = l.committer.Propose(ctx, p)
		return events.Receipt{}, fmt.Errorf("the test lost the answer: %w", events.ErrUncertain)
	}
	for {
		r, err := l.committer.Propose(ctx, p)
		if err == nil || ctx.Err() != nil || l.Sequence() > 0 {
			return r, err
		}
	}
}

// Offer implements events.Offerer.
func (l *Log) Offer(ctx context.Context, p events.Proposal) (func() (events.Receipt, error), error) {
	if err := l.failure.Load(); (err == nil || *err == nil) && !l.lose.Load() && l.Sequence() > 0 {
		return l.committer.Offer(ctx, p)
	}
	return func() (events.Receipt, error) { return l.Propose(ctx, p) }, nil
}

// Command has the API put a document of an object in place of another, nil for none, and
// returns the event's sequence once it is in the view.
func (l *Log) Command(t testing.TB, ref events.Ref, uid string, before, after []byte) uint64 {
	t.Helper()
	c, _, err := events.Command(ref, uid, before, after)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Propose(t.Context(), events.Proposal{Decision: events.Decision{Changes: []events.Change{c}}, Actor: events.Actor{Kind: "api"}})
	if err == nil {
		err = l.Wait(t.Context(), r.Last)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r.Last
}

// Fail makes each proposal fail from now on, until it is called with nil.
func (l *Log) Fail(err error) { l.failure.Store(&err) }

// Lose loses the answer to the next proposal.
func (l *Log) Lose() { l.lose.Store(true) }

// Sequence is that of the last event.
func (l *Log) Sequence() uint64 { return l.View().Sequence() }

// After returns the events after a sequence, in order.
func (l *Log) After(t testing.TB, sequence uint64) []events.Event {
	t.Helper()
	var all []events.Event
	for i := sequence + 1; i <= l.Sequence(); i++ {
		e, err := l.Events.Get(context.Background(), i)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}
