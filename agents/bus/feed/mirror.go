package feed

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// behind is by how many changes a follower may fall behind.
const behind = 4096

// Mirror is the node's share of the cluster, as its feed tells it. Its sequence
// says up to where the node knows everything that concerns it; what the feed
// leaves out is not there.
//
// A Change has an Event that says which object has changed and at which sequence,
// and nothing else: the feed tells how things are, not what happened.
type Mirror struct {
	// ask has the server say how far the feed is, once that is as far as a
	// sequence, and shows it. It returns without having done so if it cannot.
	ask func(ctx context.Context, sequence uint64)
	// alive is Alive.
	alive func(ctx context.Context) (renew bool, err error)

	mu    sync.Mutex
	state *projections.State
	view  projections.Reader
	// last is the newest step, and coming the one that is to come. Older ones are kept
	// by the followers that have yet to take them, and by nobody else: the versions of
	// objects in them are most of what a node would remember.
	last, coming *step
	floor        uint64        // the sequence before last
	count        uint64        // of all changes ever shown
	moved        chan struct{} // closed and replaced at each step
	ended        error
}

// step is what one message, or a few that belong together, changed.
type step struct {
	sequence uint64
	place    uint64 // how many changes there were before it
	changes  []projections.Change
	next     *step // nil while it is to come
}

var _ live.Projection = (*Mirror)(nil)

func newMirror() *Mirror {
	m := &Mirror{state: projections.NewState(), moved: make(chan struct{}), coming: &step{}}
	m.view, m.last = m.state.View(), m.coming
	return m
}

// Alive tells the server that feeds the node that it is there, asks in the same breath how
// far the feed is, and returns whether the node is to renew its Lease. It fails if no
// server feeds the node now, or one that does not hear.
func (m *Mirror) Alive(ctx context.Context) (renew bool, err error) { return m.alive(ctx) }

// View is live.Projection's.
func (m *Mirror) View() projections.Reader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

// grace is how long a Wait leaves the feed to come by itself before it asks, and
// how long it pauses before it asks again. What a node waits for is mostly what it
// has told of itself, which comes.
const grace = 500 * time.Millisecond

// Wait is live.Projection's. It asks the server how far the feed is, for a change
// that does not concern the node is not told.
func (m *Mirror) Wait(ctx context.Context, sequence uint64) error {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := make(chan struct{}, 1)
	pause := time.NewTimer(grace)
	defer pause.Stop()
	for {
		m.mu.Lock()
		at, moved, ended := m.view.Sequence(), m.moved, m.ended
		m.mu.Unlock()
		if at >= sequence {
			return nil
		}
		if ended != nil {
			return ended
		}
		select {
		case <-moved:
		case <-pause.C:
			go func() {
				m.ask(asking, sequence)
				asked <- struct{}{}
			}()
		case <-asked:
			pause.Reset(grace)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Changes is live.Projection's. Who has just taken a view may miss one step that
// comes before it asks, and not more: it should ask at once, and do what takes long
// then.
func (m *Mirror) Changes(_ context.Context, after uint64) (live.Changes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case after < m.floor:
		return nil, live.ErrTooOld
	case after < m.last.sequence:
		return &position{mirror: m, at: m.last, after: after}, nil
	}
	return &position{mirror: m, at: m.coming, after: after}, nil
}

// position is a follower's place.
type position struct {
	mirror *Mirror
	at     *step  // the first that it has not taken
	after  uint64 // it wants no changes up to here
}

// Next is live.Changes's.
func (p *position) Next(ctx context.Context) ([]projections.Change, error) {
	for {
		changes, moved, err := p.take()
		if err != nil || len(changes) > 0 {
			return changes, err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *position) take() ([]projections.Change, <-chan struct{}, error) {
	m := p.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count-p.at.place > behind && p.at != m.last {
		return nil, nil, live.ErrTooOld
	}
	var out []projections.Change
	for ; p.at.next != nil; p.at = p.at.next {
		if p.at.sequence > p.after {
			out = append(out, p.at.changes...)
		}
	}
	if len(out) == 0 && m.ended != nil {
		return nil, nil, m.ended
	}
	return out, m.moved, nil
}

// apply shows a step: messages that belong together.
func (m *Mirror) apply(messages []message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := messages[len(messages)-1]
	reset := messages[0].Reset
	known := map[events.Ref]bool{} // filled at a reset
	var changes []projections.Change
	for _, msg := range messages {
		for _, p := range msg.Puts {
			e := p.entry()
			if reset {
				known[e.Ref] = true
			}
			changes = m.put(changes, e)
		}
		for _, r := range msg.Removes {
			changes = m.remove(changes, events.Ref(r), last.Sequence)
		}
	}
	if reset {
		for resource := range m.view.Resources() {
			for e := range m.view.List(resource.Group, resource.Resource, "") {
				if !known[e.Ref] {
					changes = m.remove(changes, e.Ref, last.Sequence)
				}
			}
		}
	}
	m.show(last.Sequence, changes)
}

func (m *Mirror) put(changes []projections.Change, e *projections.Entry) []projections.Change {
	before := m.view.Get(e.Ref)
	if before != nil && before.Sequence == e.Sequence {
		return changes
	}
	e.Succeed(before)
	m.state.Put(e)
	return append(changes, projections.Change{Event: about(e, e.Sequence), Before: before, After: e})
}

func (m *Mirror) remove(changes []projections.Change, r events.Ref, sequence uint64) []projections.Change {
	before := m.view.Get(r)
	if before == nil {
		return changes
	}
	m.state.Remove(r)
	return append(changes, projections.Change{Event: about(before, sequence), Before: before})
}

func about(e *projections.Entry, sequence uint64) *events.Event {
	return &events.Event{Sequence: sequence, Object: e.Ref, UID: e.UID}
}

// show makes the state visible as of a sequence. Called with mu held.
func (m *Mirror) show(sequence uint64, changes []projections.Change) {
	m.state.StartAt(max(sequence, m.view.Sequence()))
	m.view = m.state.View()
	if len(changes) > 0 {
		m.count += uint64(len(changes))
		m.floor, m.last = m.last.sequence, m.coming
		m.coming = &step{place: m.count}
		m.last.sequence, m.last.changes, m.last.next = m.view.Sequence(), changes, m.coming
	}
	m.change()
}

// reached says that nothing that concerns the node happened up to a sequence.
func (m *Mirror) reached(sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sequence > m.view.Sequence() {
		m.show(sequence, nil)
	}
}

func (m *Mirror) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = err
	m.change()
}

func (m *Mirror) change() {
	close(m.moved)
	m.moved = make(chan struct{})
}

var errEnded = errors.New("the feed has ended")
