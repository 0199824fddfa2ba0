package runner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// releaser is a toy decider that deletes a lease and notes an Event whenever
// something concerns its item.
type releaser struct{ *scribe }

func (r releaser) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	r.scribe.Decide(v, item, now)
	note := events.Ref{Resource: "events", Namespace: "default", Name: "n"}
	return runner.Result{
		Commands:  []runner.Command{{Verb: runner.Delete, Object: events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "default", Name: "l"}}},
		Decisions: []events.Decision{{Changes: []events.Change{{Type: "event.recorded", Object: note, Data: []byte("{}"), Optional: true}}}},
	}
}

// farAhead is the gate to and the proposer for a log of volatile objects that is
// much longer than the history.
type farAhead struct{}

func (farAhead) Do(context.Context, events.Actor, runner.Command) (uint64, error) {
	return 1_000_000, nil
}

func (farAhead) Propose(context.Context, events.Proposal) (events.Receipt, error) {
	return events.Receipt{First: 1_000_000, Last: 1_000_000}, nil
}

// An item does not wait for the history to reach a sequence of the other log.
func TestVolatileSequencesAreNotWaitedFor(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		o := c.options(t)
		o.Gate, o.Proposer = farAhead{}, farAhead{}
		defer start(t, releaser{s}, o)()
		c.put("a", nil)
		synctest.Wait()
		c.put("a", map[string]string{"x": "y"})
		synctest.Wait()
		s.check(t, "a because 1", "a because 2")
	})
}
