package live

import (
	"container/heap"
	"context"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// View implements Projection.
func (l *Live) View() projections.Reader { return l.current.Load().view }

// Folded is the sequence up to which the projection has folded the log.
func (l *Live) Folded() uint64 { return l.View().Sequence() }

// Lookup returns how an object stands: its canonical JSON with what is known of its
// outline, its uid and the sequence of its latest event.
func (l *Live) Lookup(object events.Ref) (raw []byte, outline events.Outline, uid string, sequence uint64, ok bool) {
	return projections.Standing(l.View(), object)
}

// Wait implements Projection. It fails with what stopped the projection if that
// happens before.
func (l *Live) Wait(ctx context.Context, sequence uint64) error {
	if l.Folded() >= sequence {
		return nil
	}
	w := &waiter{sequence: sequence, reached: make(chan struct{})}
	l.mu.Lock()
	if l.Folded() >= sequence {
		l.mu.Unlock()
		return nil
	}
	heap.Push(&l.waiters, w)
	l.mu.Unlock()
	select {
	case <-w.reached:
		return nil
	case <-l.done:
		return l.err
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.index >= 0 {
			heap.Remove(&l.waiters, w.index)
		}
		return ctx.Err()
	}
}

// waiter is one call of Wait.
type waiter struct {
	sequence uint64
	reached  chan struct{}
	index    int // in waiters, -1 when taken out
}

// waiters is a heap, so that a fold touches only those whose time has come.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].sequence < w[j].sequence }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

// Push is heap.Interface's.
func (w *waiters) Push(x any) {
	x.(*waiter).index = len(*w)
	*w = append(*w, x.(*waiter))
}

// Pop is heap.Interface's.
func (w *waiters) Pop() any {
	old := *w
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	x.index = -1
	return x
}

func (w *waiters) reached(sequence uint64) {
	for len(*w) > 0 && (*w)[0].sequence <= sequence {
		close(heap.Pop(w).(*waiter).reached)
	}
}
