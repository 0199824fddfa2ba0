package jetstream_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

// load is how writers write.
type load interface {
	fmt.Stringer
	// write appends until a time, and says how much.
	write(b *testing.B, x *bench, until time.Time, c *cost)
}

// singly is one writer that waits until an event is durable before it appends the
// next.
type singly struct{}

func (singly) String() string { return "appended 1 at a time" }

func (singly) write(b *testing.B, x *bench, until time.Time, c *cost) {
	batches{1}.write(b, x, until, c)
}

// batches is one writer that appends many at a time.
type batches struct{ size int }

func (l batches) String() string { return fmt.Sprintf("appended %d at a time", l.size) }

func (l batches) write(b *testing.B, x *bench, until time.Time, c *cost) {
	for time.Now().Before(until) {
		batch := some(x.last+1, l.size)
		for i := range batch {
			batch[i].Object.Namespace = namespaceOf(int(x.last) + i)
		}
		var err error
		x.last, err = x.log.Append(b.Context(), x.last, batch)
		must(b, err)
		c.events += len(batch)
	}
}

// writers are many who propose to the committer and wait for its answer, as fast as
// that comes if rate is 0, or so many proposals a second in all.
type writers struct{ number, rate int }

func (l writers) String() string {
	if l.rate == 0 {
		return fmt.Sprintf("%d writers", l.number)
	}
	return fmt.Sprintf("%d a second by writers", l.rate)
}

func (l writers) write(b *testing.B, x *bench, until time.Time, c *cost) {
	var (
		mu  sync.Mutex
		all sync.WaitGroup
		one = some(1, 1)[0]
	)
	next, began := 0, time.Now()
	// turn says which proposal is the next, and when it is due.
	turn := func() (n int, due time.Time) {
		mu.Lock()
		defer mu.Unlock()
		next++
		due = time.Now()
		if l.rate > 0 {
			due = began.Add(time.Duration(next) * time.Second / time.Duration(l.rate))
		}
		return next, due
	}
	for range l.number {
		all.Go(func() {
			for {
				n, due := turn()
				if due.After(until) {
					return
				}
				<-time.After(time.Until(due))
				change := events.Change{Type: "pod.created", Object: events.Ref{
					Resource: "pods", Namespace: namespaceOf(n), Name: fmt.Sprintf("web-%d-%d", began.UnixNano(), n),
				}}
				change.Data = fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"note":%q},"name":%q,"namespace":%q,"uid":%q}}`,
					one.Data, change.Object.Name, change.Object.Namespace, change.Object.Name)
				r, err := x.committer.Propose(b.Context(), events.Proposal{
					Actor: events.Actor{Kind: "api"}, Decision: events.Decision{Changes: []events.Change{change}},
				})
				took := time.Since(due)
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				c.events++
				if l.rate > 0 {
					c.waits = append(c.waits, took)
				}
				x.last = max(x.last, r.Last)
				x.folded.Store(x.last)
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

// unread is the committer's index in which nothing is ever found, for all that is
// written is new.
type unread struct{ bench *bench }

func (*unread) Lookup(events.Ref) (raw []byte, o events.Outline, uid string, sequence uint64, ok bool) {
	return nil, o, "", 0, false
}

func (x *unread) Folded() uint64 { return x.bench.folded.Load() }

func (x *unread) Wait(context.Context, uint64) error { return nil }
