package runner_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// curious is a toy decider that looks at a lease and stamps its item; it is tuned.
type curious struct{ *scribe }

func (curious) Setup() []byte { return []byte(`{"since":5}`) }

func (c curious) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	v.Volatile.Get(events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "default", Name: "l"})
	return c.scribe.Decide(v, item, now)
}

// still is a projection that does not change.
type still struct{ *projections.State }

func (s still) Wait(context.Context, uint64) error { return nil }

func (s still) Changes(context.Context, uint64) (live.Changes, error) { return s, nil }

func (s still) Next(ctx context.Context) ([]projections.Change, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What a decider was given is recorded with what it decided.
func TestAskedIsRecorded(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		lease := events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "default", Name: "l"}
		volatile := projections.NewVolatileState()
		volatile.Put(projections.NewEntry(lease, "u", 3, 4, []byte(`{"kind":"Lease"}`)))
		var proposals []events.Proposal
		c.propose = func(p events.Proposal) error { proposals = append(proposals, p); return nil }
		o := c.options(t)
		o.Volatile = still{volatile}
		defer start(t, curious{s}, o)()
		c.put("a", map[string]string{"stamp": "1"})
		synctest.Wait()
		if len(proposals) != 1 {
			t.Fatalf("%d proposals", len(proposals))
		}
		var asked runner.Asked
		if err := json.Unmarshal(proposals[0].Asked, &asked); err != nil {
			t.Fatal(err)
		}
		digest := runner.Result{Decisions: []events.Decision{proposals[0].Decision}}.Digest()
		if asked.Item != "configmaps/default/a" || asked.Because != 1 || asked.Answers != 1 || asked.Digest != digest || asked.By != s.Actor().String() {
			t.Errorf("asked %s", proposals[0].Asked)
		}
		if len(asked.Saw) != 1 || asked.Saw[0].Object != lease.Text() || string(asked.Setup) != `{"since":5}` {
			t.Errorf("asked %s", proposals[0].Asked)
		}
	})
}

// A question that is too large for an event's envelope says so.
func TestAskedIsCut(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		lease := events.Ref{Group: "coordination.k8s.io", Resource: "leases", Namespace: "default", Name: "l"}
		volatile := projections.NewVolatileState()
		volatile.Put(projections.NewEntry(lease, "u", 3, 4, []byte(`{"kind":"`+strings.Repeat("x", 1<<16)+`"}`)))
		var asked runner.Asked
		c.propose = func(p events.Proposal) error { return json.Unmarshal(p.Asked, &asked) }
		o := c.options(t)
		o.Volatile = still{volatile}
		defer start(t, curious{s}, o)()
		c.put("a", map[string]string{"stamp": "1"})
		synctest.Wait()
		if asked.Cut == "" || asked.Saw != nil || asked.Item == "" {
			t.Errorf("asked %+v", asked)
		}
	})
}
