package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// hub follows what a projection folds, once, and passes each change to those who
// watch its resource: an API server holds a watch for every resource, and most
// changes concern one of them.
type hub struct {
	projection live.Projection

	mu      sync.Mutex
	at      uint64 // all changes up to this sequence have been passed on
	members map[schema.GroupResource]map[*member]struct{}
	moved   chan struct{} // closed when at moves
	err     error         // why the hub has ended
}

// member is one watch's place in the hub: the changes that it has yet to take.
type member struct {
	scope  schema.GroupResource
	notify bool // wants to hear of progress now and then
	signal chan struct{}

	// The hub's mutex guards the rest.
	queue []item
	told  uint64 // the sequence of the last item ever queued
	lost  bool
}

// item is a change, or a note that there is none up to a sequence.
type item struct {
	change   projections.Change
	progress uint64
}

// errEnded says that the server is stopping.
var errEnded = errors.New("the storage follows its log no longer")

// maxQueue bounds what a slow watch may have waiting. One that falls further
// behind reads again from the recent changes that the projection keeps.
const maxQueue = 4096

func newHub(p live.Projection) *hub {
	return &hub{
		projection: p, at: p.View().Sequence(),
		members: map[schema.GroupResource]map[*member]struct{}{},
		moved:   make(chan struct{}),
	}
}

// run passes changes on until the context ends.
func (h *hub) run(ctx context.Context) {
	for {
		err := h.follow(ctx)
		if errors.Is(err, live.ErrTooOld) {
			h.skip()
			continue
		}
		h.end(fmt.Errorf("%w: %w", errEnded, err))
		return
	}
}

func (h *hub) follow(ctx context.Context) error {
	changes, err := h.projection.Changes(ctx, h.at)
	if err != nil {
		return err
	}
	for {
		batch, err := changes.Next(ctx)
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			h.pass(lasting(batch))
		}
	}
}

func (h *hub) pass(batch []projections.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range batch {
		r := groupResource(c.Event.Object)
		for m := range h.members[r] {
			m.push(item{change: c})
		}
	}
	h.move(batch[len(batch)-1].Event.Sequence)
}

// skip goes on from the present when the hub itself has fallen too far behind:
// every watch must find out by itself what it missed, or that it cannot.
func (h *hub) skip() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, members := range h.members {
		for m := range members {
			m.lose()
		}
	}
	h.move(h.projection.View().Sequence())
}

// end tells all who wait that nothing more will come.
func (h *hub) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	close(h.moved)
	for _, members := range h.members {
		for m := range members {
			m.wake()
		}
	}
}

func (h *hub) move(at uint64) {
	h.at = at
	close(h.moved)
	h.moved = make(chan struct{})
}

// wait returns once all changes up to a sequence have been passed on.
func (h *hub) wait(ctx context.Context, sequence uint64) error {
	for {
		h.mu.Lock()
		at, moved, err := h.at, h.moved, h.err
		h.mu.Unlock()
		switch {
		case at >= sequence:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// current returns the sequence of the log's last event as of the moment of the
// call, and tells those who watch the resource that they have all up to there.
// Whoever asks is about to wait for a cache to be as new as that, so the cache
// must hear of it though nothing has changed.
func (h *hub) current(ctx context.Context, r schema.GroupResource) (uint64, error) {
	if err := h.wait(ctx, h.projection.View().Sequence()); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.members[r] {
		h.tell(m)
	}
	return h.at, nil
}

// join makes a watch a member, or an old member one anew, and returns the
// sequence after which it is given all changes.
func (h *hub) join(m *member) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return 0, h.err
	}
	if h.members[m.scope] == nil {
		h.members[m.scope] = map[*member]struct{}{}
	}
	h.members[m.scope][m] = struct{}{}
	m.queue, m.lost = nil, false
	return h.at, nil
}

func (h *hub) leave(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.members[m.scope], m)
}

// progress tells a member how far the hub is, behind all that it has waiting.
func (h *hub) progress(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.members[m.scope][m]; there {
		m.push(item{progress: h.at})
	}
}

// tell is progress for a member that does not know it yet.
func (h *hub) tell(m *member) {
	if m.told < h.at {
		m.push(item{progress: h.at})
	}
}

// report tells the members who want it how far the hub is, now and then.
func (h *hub) report(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		h.mu.Lock()
		for _, members := range h.members {
			for m := range members {
				if m.notify {
					h.tell(m)
				}
			}
		}
		h.mu.Unlock()
	}
}

// take waits for what there is for a member. It says true if the member has
// lost changes, and must join again and catch up.
func (h *hub) take(ctx context.Context, m *member) (items []item, lost bool, err error) {
	for {
		h.mu.Lock()
		items, lost, err = m.queue, m.lost, h.err
		m.queue = nil
		h.mu.Unlock()
		if len(items) > 0 || lost || err != nil {
			return items, lost, err
		}
		select {
		case <-m.signal:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

func (m *member) push(i item) {
	switch {
	case m.lost:
		return
	case len(m.queue) >= maxQueue:
		m.lose()
		return
	}
	m.queue = append(m.queue, i)
	if m.told = i.progress; i.change.Event != nil {
		m.told = i.change.Event.Sequence
	}
	m.wake()
}

func (m *member) lose() {
	m.queue, m.lost = nil, true
	m.wake()
}

func (m *member) wake() {
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

func groupResource(r events.Ref) schema.GroupResource {
	return schema.GroupResource{Group: r.Group, Resource: r.Resource}
}
