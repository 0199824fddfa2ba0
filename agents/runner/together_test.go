package runner_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	core "k8s.io/api/core/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// deaf is a scribe that cannot tell what a change concerns.
type deaf struct{ *scribe }

func (deaf) Concerns(runner.View, projections.Change) []events.Ref { panic("bug") }

// Of deciders that are driven together one that is slow, or has a bug, is no harm to the
// others, and all have ended when Together returns.
func TestDecidersTogether(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		slow, busy := newScribe(), make(chan struct{})
		ended := 0
		slow.during = func() { <-busy; ended++ }
		o := c.options(t)
		slowly := o
		slowly.Workers = 1
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() {
			over <- runner.Together(ctx, runner.New(deaf{newScribe()}, o), runner.New(slow, slowly), runner.New(s, o))
		}()
		for _, name := range []string{"a", "b", "c"} {
			c.put(name, map[string]string{"stamp": "x"})
			synctest.Wait()
			if m := projections.As[core.ConfigMap](c.View().Get(ref(name))); m.Data["stamped"] != "x" {
				t.Errorf("%s has %v", name, m.Data)
			}
		}
		cancel()
		synctest.Wait()
		select {
		case err := <-over:
			t.Fatalf("it returned (%v) while a decider was at work", err)
		default:
		}
		close(busy)
		if err := <-over; err != nil || ended != 1 {
			t.Errorf("it returned %v after %d decisions of one that was to begin no second", err, ended)
		}
	})
}

// hesitant is a scribe that takes its time to tell what concerns the first object.
type hesitant struct {
	*scribe
	first chan struct{}
}

func (h hesitant) Concerns(v runner.View, c projections.Change) []events.Ref {
	if c.Entry().Ref == ref("a") {
		<-h.first
	}
	return h.scribe.Concerns(v, c)
}

// What comes is read while a decider still looks at what was there.
func TestReadsFromTheBeginning(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		c.put("a", nil)
		first := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() {
			over <- runner.Together(ctx, runner.New(hesitant{newScribe(), first}, c.options(t)), runner.New(s, c.options(t)))
		}()
		synctest.Wait()
		c.put("b", nil)
		synctest.Wait()
		s.check(t, "a because 1", "b because 2")
		close(first)
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

// A clock that is set forward makes an item's time come, though no timer has rung.
func TestWakesByTheClock(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		o, now := c.options(t), time.Now()
		set := clocktesting.NewFakePassiveClock(now)
		o.Clock, o.Workers = set, 1
		c.put("a", nil)
		s.wake = func(at time.Time) time.Time {
			if at.Before(now.Add(time.Hour)) {
				return now.Add(time.Hour)
			}
			return time.Time{}
		}
		defer start(t, s, o)()
		synctest.Wait()
		set.SetTime(now.Add(2 * time.Hour))
		c.put("b", nil)
		synctest.Wait()
		if got := strings.Join(s.asked, ", "); got != "a because 1, b because 2, a because 1" {
			t.Errorf("asked about %s", got)
		}
	})
}
