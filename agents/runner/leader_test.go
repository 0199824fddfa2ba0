package runner_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// election is a lease that several hold in turn.
type election struct {
	mu      sync.Mutex
	holder  string
	expires time.Time
	cut     map[string]bool // who cannot reach it
}

const ttl = 9 * time.Second

type candidate struct {
	*election
	name string
}

func (c candidate) try() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut[c.name] || (c.holder != "" && c.holder != c.name && time.Now().Before(c.expires)) {
		return false
	}
	c.holder, c.expires = c.name, time.Now().Add(ttl)
	return true
}

func (c candidate) Acquire(ctx context.Context) error {
	for !c.try() {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c candidate) Renew(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cut[c.name]:
		return context.DeadlineExceeded
	case c.holder != c.name:
		return events.ErrLeaseLost
	}
	c.expires = time.Now().Add(ttl)
	return nil
}

func (c candidate) Release(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holder == c.name {
		c.holder = ""
	}
	return nil
}

func (c candidate) Holder(context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holder, nil
}

func (c candidate) TTL() time.Duration { return ttl }

// Only the leader decides. When it cannot renew it steps down before another can
// have stepped up; when it stops it hands over at once.
func TestFailover(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, first *scribe) {
		e := &election{cut: map[string]bool{}}
		second := newScribe()
		o := c.options(t)
		o.Lease = candidate{e, "first"}
		stopFirst := start(t, first, o)
		synctest.Wait()
		o.Lease = candidate{e, "second"}
		stopSecond := start(t, second, o)
		time.Sleep(time.Minute)

		c.put("a", map[string]string{"stamp": "1"})
		synctest.Wait()
		first.check(t, "a because 1", "a because 2")
		second.check(t)

		e.mu.Lock()
		e.cut["first"] = true
		e.mu.Unlock()
		time.Sleep(2 * ttl)
		c.put("a", map[string]string{"stamp": "2"})
		synctest.Wait()
		first.check(t)
		second.check(t, "a because 2", "a because 3", "a because 4")

		e.mu.Lock()
		e.cut["first"] = false
		e.mu.Unlock()
		stopSecond()
		time.Sleep(time.Second)
		first.check(t, "a because 4")
		c.put("a", map[string]string{"stamp": "3"})
		synctest.Wait()
		if a := c.View().Get(ref("a")); projections.As[core.ConfigMap](a).Data["stamped"] != "3" {
			t.Error("nobody leads after the handover")
		}
		stopFirst()
	})
}
