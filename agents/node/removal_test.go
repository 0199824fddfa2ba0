package node_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// lagging is a projection that shows nothing new while it is frozen.
type lagging struct {
	live.Projection
	mu     sync.Mutex
	frozen projections.Reader
	thawed chan struct{}
}

func (l *lagging) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen, l.thawed = l.Projection.View(), make(chan struct{})
}

func (l *lagging) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = nil
	close(l.thawed)
}

func (l *lagging) View() projections.Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		return l.frozen
	}
	return l.Projection.View()
}

func (l *lagging) Wait(ctx context.Context, sequence uint64) error {
	l.mu.Lock()
	frozen, thawed := l.frozen, l.thawed
	l.mu.Unlock()
	if frozen != nil && frozen.Sequence() < sequence {
		select {
		case <-thawed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return l.Projection.Wait(ctx, sequence)
}

// deafened loses the answer to the first removal of a pod, and all that comes of it.
type deafened struct {
	events.Proposer
	view     *lagging
	removals int
}

func (d *deafened) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	if p.Changes[0].Type != "pod.removed" {
		return d.Proposer.Propose(ctx, p)
	}
	if d.removals++; d.removals > 1 {
		return d.Proposer.Propose(ctx, p)
	}
	d.view.freeze()
	if _, err := d.Proposer.Propose(ctx, p); err != nil {
		return events.Receipt{}, err
	}
	return events.Receipt{}, events.ErrUncertain
}

// A node that does not hear that its pod is gone asks once more whether it is, and
// then waits to hear.
func TestDoesNotInsistOnARemoval(t *testing.T) {
	inBubble(t, 1, func(b *bubble) {
		b.stop()
		view := &lagging{Projection: b.view}
		d := &deafened{Proposer: b.gate, view: view}
		b.seen, b.faults.Proposer = view, d
		b.start()
		b.create()
		b.settle(10 * time.Second)
		b.delete()
		b.settle(time.Minute)
		if b.pod() != nil || d.removals != 2 {
			t.Errorf("the pod is %v after %d proposals to remove it", b.pod(), d.removals)
		}
		view.thaw()
		synctest.Wait()
		b.settle(time.Minute)
		if d.removals != 2 {
			t.Errorf("there were %d proposals to remove the pod", d.removals)
		}
	})
}
