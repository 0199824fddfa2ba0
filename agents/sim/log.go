package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/reprise-run/reprise/events"
)

// log is the one durable thing: what it has stored survives all. It takes time to
// store, and its answers can be lost, come late, or say that it cannot.
type log struct {
	host
	stored events.Log
	last   uint64
	// claimed is where it ends with what is under way, which is stored at settled at the latest.
	claimed uint64
	settled time.Duration
}

func newLog(w *world, stored events.Log) *log {
	l := &log{host: w.host("log"), stored: stored}
	l.start()
	return l
}

// reader is the log as one server sees it: an events.Log for its committer.
type reader struct {
	*log
	from *server
}

var _ events.Log = reader{}

// Append implements events.Log. The caller waits in virtual time.
func (r reader) Append(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	w := r.w
	if w.chance(w.noise.Refused) {
		return 0, fmt.Errorf("the disk is full: %w", events.ErrUnavailable)
	}
	patience := 5 * time.Second
	type answer struct {
		last uint64
		err  error
	}
	var a *answer
	done := &bell{}
	delay := w.between(200*time.Microsecond, 2*time.Millisecond)
	if w.chance(w.noise.Slow) {
		delay = w.between(2*time.Millisecond, 15*time.Second)
	}
	if r.from.cut <= w.now && !w.chance(w.noise.Lost) {
		// On its way, the batch outlives whoever sent it.
		r.host.after(delay, func() {
			r.claim(ctx, after, batch, func(last uint64, err error) {
				if !w.chance(w.noise.Lost) && r.from.cut <= w.now {
					r.from.after(w.between(0, 200*time.Microsecond), func() { a = &answer{last, err}; done.ring() })
				}
			})
		})
	}
	r.from.after(patience, done.ring)
	w.await(done)
	if a == nil {
		return 0, fmt.Errorf("the log did not answer: %w", events.ErrUncertain)
	}
	return a.last, a.err
}

// claim stores a batch; one with replicas does so once they have it.
func (l *log) claim(ctx context.Context, after uint64, batch []events.Event, answer func(uint64, error)) {
	if !l.w.plan.Replicas || l.w.bugs.NoFence {
		answer(l.put(ctx, after, batch))
		return
	}
	if l.claimed = max(l.claimed, l.last); after != l.claimed {
		answer(0, fmt.Errorf("it ends at %d with what is under way, and not at %d: %w", l.claimed, after, events.ErrStale))
		return
	}
	l.claimed += uint64(len(batch))
	delay := l.w.between(100*time.Microsecond, time.Millisecond)
	if l.w.chance(l.w.noise.Slow) {
		delay = l.w.between(time.Millisecond, 30*time.Second)
	}
	l.settled = max(l.settled, l.w.now+delay)
	l.host.after(l.settled-l.w.now, func() { answer(l.put(ctx, after, batch)) })
}

// put stores a batch, if the log still ends where the writer thinks, and has
// servers hear of it.
func (l *log) put(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	if l.w.bugs.NoFence {
		after = l.last
	}
	if l.w.bugs.Forgets && after == l.last && l.w.chance(50) {
		return l.last + uint64(len(batch)), nil
	}
	last, err := l.stored.Append(context.WithoutCancel(ctx), after, batch)
	if err != nil {
		return 0, err
	}
	l.last = last
	l.w.referee.stored(last-uint64(len(batch)), batch)
	for _, s := range l.w.servers {
		l.send(&s.host, s.read)
	}
	return last, nil
}

// Last implements events.Log.
func (r reader) Last(ctx context.Context) (uint64, error) {
	if err := r.reach(ctx); err != nil {
		return 0, err
	}
	return r.last, nil
}

// First implements events.Log.
func (r reader) First(ctx context.Context) (uint64, error) { return 1, r.reach(ctx) }

// Get implements events.Log.
func (r reader) Get(ctx context.Context, sequence uint64) (events.Event, error) {
	if err := r.reach(ctx); err != nil {
		return events.Event{}, err
	}
	return r.stored.Get(context.WithoutCancel(ctx), sequence)
}

// Follow implements events.Log; nobody waits in it.
func (r reader) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	return r.stored.Follow(ctx, from)
}

func (r reader) reach(ctx context.Context) error {
	r.w.sleep(r.w.between(50*time.Microsecond, 500*time.Microsecond))
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.from.cut > r.w.now || r.w.chance(r.w.noise.Lost) {
		r.w.sleep(5 * time.Second)
		return fmt.Errorf("the log does not answer: %w", context.DeadlineExceeded)
	}
	return nil
}

// lease is held by one server at a time, as far as servers can tell.
type lease struct {
	holder *server
	until  time.Duration
}

// leaseTime is how long a lease outlives its renewal.
const leaseTime = 5 * time.Second

// waits is the committer.Timing of the virtual clock.
type waits struct{ *world }

// Sleep implements committer.Timing.
func (t waits) Sleep(ctx context.Context, d time.Duration) {
	if ctx.Err() == nil {
		t.sleep(d)
	}
}

// Timeout implements committer.Timing.
func (t waits) Timeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return deadline{ctx, t.world, t.now + d}, func() {}
}

// deadline is a context that ends at a time of the virtual clock. Nobody can wait
// for that, only look.
type deadline struct {
	context.Context
	w  *world
	at time.Duration
}

// Done implements context.Context.
func (d deadline) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (d deadline) Err() error {
	if err := d.Context.Err(); err != nil {
		return err
	}
	if d.w.now >= d.at {
		return context.DeadlineExceeded
	}
	return nil
}
