package runnertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// story is one transcript on its way: the cluster, and what the runner would
// remember of each item.
type story struct {
	decider           runner.Decider
	history, volatile world
	now               time.Time
	items             map[events.Ref]memory
	as                disguise
}

// disguise is what a given change is said to be, where that is not what the gate
// makes of it.
type disguise struct {
	fact, user string
	by         events.Actor
	note       []byte
}

// put on an event, it changes what is set.
func (d disguise) put(ev events.Event) events.Event {
	if d.fact != "" {
		ev.Type = d.fact
	}
	if d.by.Kind != "" {
		ev.Actor = d.by
	}
	ev.User, ev.Note = d.user, d.note
	return ev
}

// memory is what the runner knows about an item besides the view.
type memory struct {
	because  uint64
	dirty    bool
	wake     time.Time
	failures int
	failure  string
}

func newStory(d runner.Decider) *story {
	return &story{decider: d, history: newWorld(), volatile: newWorld(), now: Epoch, items: map[events.Ref]memory{}}
}

func (s *story) fork() *story {
	c := *s
	c.history, c.volatile = s.history.copy(false), s.volatile.copy(false)
	c.items = maps.Clone(s.items)
	return &c
}

func (s *story) view() runner.View {
	return runner.View{Reader: s.history.state.View(), Volatile: s.volatile.state.View()}
}

// fold appends one event and marks the items that it concerns.
func (s *story) fold(ev events.Event) (uint64, error) {
	w := s.history
	if events.Volatile(ev.Object) {
		w = s.volatile
	}
	ev.Time = s.now
	c, err := w.fold(ev)
	if err != nil {
		return 0, err
	}
	for _, ref := range s.decider.Concerns(s.view(), c) {
		m := s.items[ref]
		m.dirty = true
		if !events.Volatile(ev.Object) {
			m.because = c.Event.Sequence
		}
		s.items[ref] = m
	}
	return c.Event.Sequence, nil
}

// due returns the items to decide, in order.
func (s *story) due(a args) ([]runner.Item, error) {
	if a.item != "" {
		ref, err := parseRef(strings.Split(a.item, "/"))
		if err != nil {
			return nil, err
		}
		return []runner.Item{s.item(ref)}, nil
	}
	var due []runner.Item
	for _, ref := range slices.SortedFunc(maps.Keys(s.items), events.Ref.Compare) {
		m := s.items[ref]
		if m.dirty || (!m.wake.IsZero() && !m.wake.After(a.now)) {
			due = append(due, s.item(ref))
		}
	}
	return due, nil
}

func (s *story) item(ref events.Ref) runner.Item {
	m := s.items[ref]
	return runner.Item{Ref: ref, Because: m.because, Failures: m.failures, Failure: m.failure}
}

// apply carries out a result as the runner, the gate and the committer would.
func (s *story) apply(item runner.Item, r runner.Result, a args) error {
	m := s.items[item.Ref]
	m.dirty, m.wake = false, r.Wake
	if len(r.Commands) > 0 && a.refuse != "" {
		m.dirty, m.failures, m.failure = true, m.failures+1, a.refuse
	} else {
		m.failures, m.failure = 0, ""
	}
	s.items[item.Ref] = m
	if a.refuse == "" {
		for _, c := range r.Commands {
			if err := s.command(c); err != nil {
				return fmt.Errorf("%s: %s %s: %w", item.Ref, c.Verb, c.Object, err)
			}
		}
	}
	for i, d := range r.Decisions {
		if err := s.append(d); err != nil {
			return fmt.Errorf("%s: decision %d: %w", item.Ref, i, err)
		}
	}
	return nil
}

// append does what the committer does with a decision.
func (s *story) append(d events.Decision) error {
	actor := s.decider.Actor()
	for _, x := range d.Expect {
		if e := s.lookup(x.Object); (e == nil) != (x.Sequence == 0) || (e != nil && e.Sequence != x.Sequence) {
			return fmt.Errorf("expects %s at sequence %d, which is wrong", x.Object, x.Sequence)
		}
	}
	if len(d.Changes) == 0 {
		return fmt.Errorf("has no changes")
	}
	for _, c := range d.Changes {
		if err := events.Check(c, actor); err != nil {
			return err
		}
		ev := events.Event{Type: c.Type, Object: c.Object, UID: c.UID, Actor: actor, Cause: d.Because, Note: c.Note, Data: c.Data, Optional: c.Optional}
		if _, err := s.fold(ev); err != nil {
			return err
		}
	}
	return nil
}

// parseRef reads kind/name, kind/namespace/name.
func parseRef(parts []string) (events.Ref, error) {
	if len(parts) < 2 || len(parts) > 3 {
		return events.Ref{}, fmt.Errorf("%q is not kind/name or kind/namespace/name", strings.Join(parts, "/"))
	}
	k, err := kindOf(parts[0])
	if err != nil {
		return events.Ref{}, err
	}
	ref := events.Ref{Group: k.gvk.Group, Resource: k.resource, Name: parts[len(parts)-1]}
	if len(parts) == 3 {
		ref.Namespace = parts[1]
	}
	return ref, nil
}
