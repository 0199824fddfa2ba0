package runner_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// scribe is a toy decider: a ConfigMap with data "copies" gets copies, and one
// with data "stamp" has data "stamped" set to it. It records what it was asked.
// Its name is that of a controller that may write to ConfigMaps.
type scribe struct {
	mu      sync.Mutex
	asked   []string
	items   []runner.Item
	times   []time.Duration
	started time.Time
	wake    func(now time.Time) time.Time
	busy    map[events.Ref]int
	most    int
	during  func()
	panics  string
}

func newScribe() *scribe { return &scribe{started: time.Now(), busy: map[events.Ref]int{}} }

func (s *scribe) Actor() events.Actor { return events.Actor{Kind: "controller", Name: "rootca"} }

func (s *scribe) Concerns(_ runner.View, c projections.Change) []events.Ref {
	name, _, _ := strings.Cut(c.Entry().Ref.Name, "-copy")
	return []events.Ref{ref(name)}
}

func (s *scribe) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf("%s because %d", item.Ref.Name, item.Because))
	s.items = append(s.items, item)
	s.times = append(s.times, now.Sub(s.started))
	s.busy[item.Ref]++
	s.most = max(s.most, s.busy[item.Ref])
	wake := s.wake
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.busy[item.Ref]--
		s.mu.Unlock()
	}()
	if s.during != nil {
		s.during()
	}
	if s.panics == item.Ref.Name {
		panic("bug")
	}
	e := v.Get(item.Ref)
	if e == nil {
		return runner.Result{}
	}
	var r runner.Result
	m := projections.As[core.ConfigMap](e)
	for i := range len(m.Data["copies"]) {
		name := fmt.Sprintf("%s-copy%d", m.Name, i)
		if v.Get(ref(name)) == nil {
			body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"default","name":%q}}`, name)
			r.Commands = append(r.Commands, runner.Command{Verb: runner.Create, Object: ref(name), Because: item.Because, Body: []byte(body)})
		}
	}
	if stamp := m.Data["stamp"]; stamp != m.Data["stamped"] {
		after := m.DeepCopy()
		after.Data["stamped"] = stamp
		d, _ := runner.Update(e, "configmap.published", after, item.Because)
		r.Decisions = append(r.Decisions, d)
	}
	if wake != nil {
		r.Wake = wake(now)
	}
	return r
}

func (s *scribe) check(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.asked, want) {
		t.Errorf("asked about\n\t%s\nwant\n\t%s", strings.Join(s.asked, "\n\t"), strings.Join(want, "\n\t"))
	}
	s.asked = nil
}

// in runs a test in a bubble of its own time.
func in(t *testing.T, f func(t *testing.T, c *cluster, s *scribe)) {
	synctest.Test(t, func(t *testing.T) { f(t, newCluster(), newScribe()) })
}

func TestDecidesWhatIsThereAndWhatComes(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		c.put("a", map[string]string{"copies": "xx"})
		defer start(t, s, c.options(t))()
		synctest.Wait()
		if got := c.names(); got != "a a-copy0 a-copy1" {
			t.Errorf("there are %s", got)
		}
		s.check(t, "a because 1", "a because 3")

		c.put("b", map[string]string{"stamp": "now"})
		synctest.Wait()
		s.check(t, "b because 4", "b because 5")
		ev := c.log[4]
		if ev.Type != "configmap.published" || ev.Cause != 4 || ev.Basis != 4 || ev.Actor.String() != "controller:rootca" || ev.Actor.Version != "test" || ev.Now.IsZero() {
			t.Errorf("the decision became %+v", ev)
		}
	})
}

// patient is a scribe for whom nobody waits.
type patient struct{ *scribe }

func (patient) Gather() time.Duration { return time.Second }

func TestAPatientDeciderGathers(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		o := c.options(t)
		o.Workers = 1
		defer start(t, patient{s}, o)()
		c.put("a", map[string]string{})
		time.Sleep(900 * time.Millisecond)
		c.put("b", map[string]string{})
		synctest.Wait()
		s.check(t)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		s.check(t, "a because 1", "b because 2")
		time.Sleep(time.Hour)
		c.put("a", map[string]string{"more": "yes"})
		synctest.Wait()
		s.check(t)
		time.Sleep(time.Second)
		synctest.Wait()
		s.check(t, "a because 3")
	})
}

// offering is an Offerer that notes in which order it is asked what.
type offering struct {
	*cluster
	noted *[]string
}

func (o offering) Offer(ctx context.Context, p events.Proposal) (func() (events.Receipt, error), error) {
	name := p.Changes[0].Object.Name
	*o.noted = append(*o.noted, "offer "+name)
	return func() (events.Receipt, error) {
		*o.noted = append(*o.noted, "answer "+name)
		return o.Propose(ctx, p)
	}, nil
}

// What a patient decider decides at a time is offered together, and one goroutine waits
// for all answers.
func TestDecisionsAreOfferedTogether(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		o := c.options(t)
		var noted []string
		o.Proposer = offering{c, &noted}
		c.propose = func(p events.Proposal) error {
			if p.Changes[0].Object.Name == "b" && p.Basis == 3 {
				return &events.ConflictError{Object: ref("b"), Expected: 2, Actual: 4}
			}
			return nil
		}
		defer start(t, patient{s}, o)()
		for _, name := range []string{"a", "b", "c"} {
			c.put(name, map[string]string{"stamp": "x"})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []string{"offer a", "offer b", "offer c", "answer a", "answer b", "answer c"}
		if !slices.Equal(noted, want) {
			t.Errorf("noted %v, want %v", noted, want)
		}
		for _, name := range []string{"a", "b", "c"} { // b by a second decision
			if m := projections.As[core.ConfigMap](c.View().Get(ref(name))); m.Data["stamped"] != "x" {
				t.Errorf("%s has %v", name, m.Data)
			}
		}
	})
}

func TestConflictIsDecidedAgain(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		defer start(t, s, c.options(t))()
		once := sync.OnceFunc(func() { c.put("a", map[string]string{"stamp": "second"}) })
		c.propose = func(events.Proposal) error { once(); return nil }
		c.put("a", map[string]string{"stamp": "first"})
		synctest.Wait()
		s.check(t, "a because 1", "a because 2", "a because 3")
		if e := c.View().Get(ref("a")); projections.As[core.ConfigMap](e).Data["stamped"] != "second" {
			t.Errorf("it is %s", e.Raw)
		}
	})
}

// What was appended must be folded before the item is decided again.
func TestWaitsForItsOwnWords(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		c.put("a", map[string]string{"copies": "x"})
		c.put("b", nil)
		wake := time.Now().Add(time.Second)
		s.wake = func(now time.Time) time.Time {
			if now.Before(wake) {
				return wake
			}
			return time.Time{}
		}
		c.inGate = func() { c.lag(true) }
		o := c.options(t)
		o.Workers = 1
		defer start(t, s, o)()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s.check(t, "a because 1", "b because 2", "b because 2")
		c.lag(false)
		synctest.Wait()
		s.check(t, "a because 3")
	})
}

func TestRefusalsBackOff(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		c.refuse = apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "a-copy0", errors.New("no"))
		c.put("a", map[string]string{"copies": "xx", "stamp": "done"})
		defer start(t, s, c.options(t))()
		time.Sleep(time.Second)
		synctest.Wait()
		for i, want := range []time.Duration{0, 50, 150, 350, 750} {
			if got := s.times[i]; got != want*time.Millisecond {
				t.Errorf("attempt %d came at %v, want %v", i, got, want*time.Millisecond)
			}
			if got := s.items[i].Failures; got != i {
				t.Errorf("attempt %d was told of %d failures", i, got)
			}
		}
		if last := s.items[4].Failure; !strings.Contains(last, "forbidden: no") {
			t.Errorf("the failure reads %q", last)
		}
		if c.commands != 5 {
			t.Errorf("%d commands, want 5: after a refusal, the next is not tried", c.commands)
		}
		if e := c.View().Get(ref("a")); projections.As[core.ConfigMap](e).Data["stamped"] != "done" {
			t.Error("the decision was not appended, though it does not rest on the command")
		}

		c.mu.Lock()
		c.refuse = nil
		c.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		last := s.items[len(s.items)-1]
		if last.Failures != 0 || last.Failure != "" {
			t.Errorf("after success it is told of %+v", last)
		}
		if got := c.names(); got != "a a-copy0 a-copy1" {
			t.Errorf("there are %s", got)
		}
	})
}

func TestUnavailableAndUncertainAreTriedAgain(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		left := []error{events.ErrUnavailable, fmt.Errorf("answer lost: %w", events.ErrUncertain)}
		c.propose = func(events.Proposal) error {
			if len(left) == 0 {
				return nil
			}
			err := left[0]
			left = left[1:]
			return err
		}
		c.put("a", map[string]string{"stamp": "x"})
		defer start(t, s, c.options(t))()
		time.Sleep(time.Second)
		synctest.Wait()
		s.check(t, "a because 1", "a because 1", "a because 1", "a because 2")
		if s.items[2].Failures != 0 {
			t.Error("what speaks of the moment is no refusal of the item's commands")
		}
	})
}

func TestBugsStayWhereTheyAre(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		c.put("a", map[string]string{"stamp": "x"})
		c.put("bad", nil)
		s.panics = "bad"
		defer start(t, s, c.options(t))()
		time.Sleep(time.Minute)
		synctest.Wait()
		if e := c.View().Get(ref("a")); projections.As[core.ConfigMap](e).Data["stamped"] != "x" {
			t.Error("an item was not decided because another cannot be")
		}
		if n := len(s.asked); n < 5 || n > 20 {
			t.Errorf("%d attempts in a minute; want a back-off", n)
		}
	})
}

func TestWakes(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		c.put("a", nil)
		s.wake = func(now time.Time) time.Time { return now.Add(10 * time.Second) }
		defer start(t, s, c.options(t))()
		time.Sleep(25 * time.Second)
		synctest.Wait()
		s.check(t, "a because 1", "a because 1", "a because 1")
		s.mu.Lock()
		s.wake = nil
		s.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		s.check(t, "a because 1")
		if got, want := fmt.Sprint(s.times), "[0s 10s 20s 30s]"; got != want {
			t.Errorf("decided at %s, want %s", got, want)
		}
	})
}

func TestItemsRunSideBySideButNoneTwiceAtATime(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		s.during = func() { time.Sleep(time.Second) }
		o := c.options(t)
		o.Workers = 2
		defer start(t, s, o)()
		for i := range 3 {
			for _, name := range []string{"a", "b", "c"} {
				c.put(name, map[string]string{"v": fmt.Sprint(i)})
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s.most != 1 {
			t.Errorf("an item was decided %d times at a time", s.most)
		}
		// a, b first; then c and a again; then b again if it changed meanwhile.
		if got := s.times[len(s.times)-1]; got > 3*time.Second {
			t.Errorf("%v for %d decisions of a second each by two workers", got, len(s.times))
		}
	})
}

func TestStartsAgainFromAViewWhenTooFarBehind(t *testing.T) {
	in(t, func(t *testing.T, c *cluster, s *scribe) {
		defer start(t, s, c.options(t))()
		c.put("a", nil)
		synctest.Wait()
		c.mu.Lock()
		c.forgot = 3
		c.mu.Unlock()
		c.put("b", nil)
		c.put("c", map[string]string{"stamp": "x"})
		synctest.Wait()
		if e := c.View().Get(ref("c")); projections.As[core.ConfigMap](e).Data["stamped"] != "x" {
			t.Error("what came while it was behind was not decided")
		}
	})
}
