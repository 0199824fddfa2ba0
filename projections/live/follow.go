package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Store is a durable projection of the same log.
type Store interface {
	// Load returns every current object, and the sequence that they are as of
	// with the chain of the event there (zeros for none).
	Load(ctx context.Context) (objects []*projections.Entry, sequence uint64, chain [32]byte, err error)
	// Commit stores whole decisions that follow what is stored, with what they
	// changed. The events and changes are those of one Fold; an event that was
	// skipped has no change.
	Commit(batch []events.Event, changes []projections.Change) error
	// Fill is Commit in bulk, while the log is far ahead: nobody reads what it
	// stores, or commits, before Filled has returned.
	Fill(batch []events.Event, outcomes []projections.Outcome) error
	Filled() error
}

// Options adjust a Live. The zero value keeps everything in memory.
type Options struct {
	// Store, if there is one, gives the state to start from and takes what is
	// folded. It is closed by who opened it, after the Live is.
	Store Store
	// Volatile says that the log is limited by age (events.Volatile): objects
	// whose last event it has forgotten are dropped.
	Volatile bool
	// Recent is how many changes are kept in memory at most for those who follow;
	// 16,384 if 0. Large ones are kept for less long.
	Recent int
	// Log takes warnings; slog.Default if nil.
	Log *slog.Logger
	// Trim is how often a volatile log is asked what it has forgotten; a minute
	// if 0.
	Trim time.Duration
	// Long is how far ahead a log must be at the start to be folded by a
	// projections.Builder; 10,000 events if 0.
	Long uint64
}

// Live is a Projection that follows a log in a goroutine of its own.
type Live struct {
	log     events.Log
	opts    Options
	state   *projections.State   // the follower's own
	builder *projections.Builder // folds in place of state up to target, if there is one
	target  uint64
	current atomic.Pointer[moment]
	cancel  context.CancelFunc
	done    chan struct{}
	err     error    // set before done is closed
	chain   [32]byte // of the last event folded, the follower's own

	mu      sync.Mutex
	recent  ring
	waiters waiters
	moved   chan struct{} // closed and replaced when there are changes
}

// moment is what has been folded, as everybody sees it.
type moment struct{ view projections.Reader }

var _ Projection = (*Live)(nil)

// Start loads what the store has, folds the log up to where it ends now, and
// goes on following it until ctx ends or Close is called. It returns when it has
// caught up.
func Start(ctx context.Context, log events.Log, opts Options) (*Live, error) {
	if opts.Recent == 0 {
		opts.Recent = 16384
	}
	if opts.Trim == 0 {
		opts.Trim = time.Minute
	}
	if opts.Long == 0 {
		opts.Long = 10_000
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	l := &Live{log: log, opts: opts, state: projections.NewState(), done: make(chan struct{}), moved: make(chan struct{})}
	if opts.Volatile {
		l.state = projections.NewVolatileState()
	}
	last, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	l.recent = newRing(opts.Recent, l.state.Sequence())
	l.current.Store(&moment{l.state.View()})
	ctx, l.cancel = context.WithCancel(ctx)
	go l.run(ctx)
	if err := l.Wait(ctx, last); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// load fills the state and returns where the log ends.
func (l *Live) load(ctx context.Context) (last uint64, err error) {
	if last, err = l.log.Last(ctx); err != nil {
		return 0, fmt.Errorf("cannot tell where the log ends: %w", err)
	}
	first, err := l.log.First(ctx)
	if err != nil {
		return 0, fmt.Errorf("cannot tell where the log begins: %w", err)
	}
	if l.opts.Volatile {
		l.state.StartAt(first - 1)
	}
	var objects []*projections.Entry
	var at uint64
	if l.opts.Store != nil {
		if objects, at, l.chain, err = l.opts.Store.Load(ctx); err != nil {
			return 0, fmt.Errorf("cannot load the stored projection: %w", err)
		}
		if err := l.belongs(ctx, at, l.chain, last); err != nil {
			return 0, err
		}
	}
	if !l.opts.Volatile && last-at >= l.opts.Long {
		l.builder, l.target = projections.NewBuilder(objects, at), last
		return last, nil
	}
	if l.opts.Store == nil {
		return last, nil
	}
	for _, e := range objects {
		l.state.Put(e)
	}
	l.state.StartAt(at)
	return last, nil
}

// belongs refuses a stored projection that was not made from this log.
func (l *Live) belongs(ctx context.Context, at uint64, chain [32]byte, last uint64) error {
	if at > last {
		return fmt.Errorf("%w: it is at sequence %d and the log ends at %d", ErrOtherLog, at, last)
	}
	if at == 0 {
		return nil
	}
	ev, err := l.log.Get(ctx, at)
	if err != nil {
		return fmt.Errorf("cannot read the event that the stored projection ends at: %w", err)
	}
	if ev.Chain != chain {
		return fmt.Errorf("%w: the event at sequence %d is not the one that it knows", ErrOtherLog, at)
	}
	return nil
}

// ErrOtherLog says that a stored projection knows of events that the log does
// not have. It is not rebuilt by itself, because it may be what is left of
// events that the log has lost.
var ErrOtherLog = errors.New("the stored projection was made from another log than this one, or the log has lost events; if the log is the right one, remove the projection's directory and it will be rebuilt")

// run follows the log, coming back to it when the connection fails, until the
// context ends or the log cannot be folded.
func (l *Live) run(ctx context.Context) {
	defer close(l.done)
	var pause time.Duration
	for {
		before := l.sequence()
		err := l.follow(ctx)
		if ctx.Err() != nil {
			l.fail(ErrClosed)
			return
		}
		var broken *brokenError
		if errors.As(err, &broken) || errors.Is(err, events.ErrNewerLog) || errors.Is(err, events.ErrDamaged) {
			l.opts.Log.Debug("the projection has stopped", "sequence", l.sequence(), "error", err)
			l.fail(err)
			return
		}
		if l.sequence() > before {
			pause = 0
		}
		pause = min(max(2*pause, 50*time.Millisecond), 5*time.Second)
		l.opts.Log.Warn("lost touch with the log; will follow it again", "sequence", l.sequence(), "in", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// brokenError is a failure that trying again does not mend.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

func (l *Live) follow(ctx context.Context) error {
	from := l.sequence() + 1
	if l.opts.Volatile {
		first, err := l.log.First(ctx)
		if err != nil {
			return err
		}
		from = max(from, first)
	}
	reader, err := l.log.Follow(ctx, from)
	if err != nil {
		return err
	}
	defer reader.Close()
	if l.builder != nil {
		if err := l.build(ctx, reader); err != nil {
			return err
		}
	}
	if l.opts.Store == nil {
		return l.fold(ctx, reader, func(f folded) error { l.publish(f); return nil })
	}
	return l.foldAndStore(ctx, reader)
}

// sequence is that of the last event folded.
func (l *Live) sequence() uint64 {
	if l.builder != nil {
		return l.builder.Sequence()
	}
	return l.state.Sequence()
}

// folded is what the follower has folded and not yet shown.
type folded struct {
	batch   []events.Event
	changes []projections.Change
	view    projections.Reader
	objects int // there are in the view
}

// fold folds what comes from a reader, and gives it to what is to be done next.
func (l *Live) fold(ctx context.Context, reader events.Reader, then func(folded) error) error {
	var trim time.Time
	for {
		batch, err := l.next(ctx, reader, &trim)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		if err := l.check(batch); err != nil {
			return err
		}
		changes, err := l.state.Fold(batch)
		if err != nil {
			return &brokenError{err}
		}
		if err := then(folded{batch, changes, l.state.View(), l.state.Len()}); err != nil {
			return err
		}
	}
}

// foldAndStore folds, and stores and publishes side by side with that, in order.
// All that was folded is stored when it returns, unless the context has ended or
// that failed.
func (l *Live) foldAndStore(ctx context.Context, reader events.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan folded, 1)
	stored := make(chan error, 1)
	go func() {
		defer cancel()
		for f := range next {
			if err := l.opts.Store.Commit(f.batch, f.changes); err != nil {
				stored <- storing(f.view.Sequence(), err)
				return
			}
			l.publish(f)
		}
		stored <- nil
	}()
	err := l.fold(ctx, reader, func(f folded) error {
		select {
		case next <- f:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(next)
	// That the store failed is why the reading ended, or else it must not go on.
	if failed := <-stored; failed != nil {
		return failed
	}
	return err
}

// check refuses a batch of the history that is not what was appended, so that
// nothing is served or decided from it. What ages away bears no chain that could
// be followed from its beginning.
func (l *Live) check(batch []events.Event) (err error) {
	if !l.opts.Volatile {
		l.chain, err = check(l.state.Sequence(), l.chain, batch)
	}
	return err
}

// check returns the chain at the end of a batch, given that before it.
func check(after uint64, chain [32]byte, batch []events.Event) ([32]byte, error) {
	next, err := events.VerifyChain(after, chain, batch)
	if err != nil {
		return chain, fmt.Errorf("%w, and nothing from there on is used; %w of the data directory, and look at that with `reprise verify`", err, events.ErrDamaged)
	}
	return next, nil
}

// next reads a batch; for a volatile log it comes back now and then without one,
// after dropping what has aged.
func (l *Live) next(ctx context.Context, reader events.Reader, trim *time.Time) ([]events.Event, error) {
	if !l.opts.Volatile {
		return reader.Next(ctx)
	}
	if now := time.Now(); !now.Before(*trim) {
		*trim = now.Add(l.opts.Trim)
		if err := l.dropForgotten(ctx); err != nil {
			return nil, err
		}
	}
	timed, cancel := context.WithDeadline(ctx, *trim)
	defer cancel()
	batch, err := reader.Next(timed)
	if err != nil && timed.Err() != nil && ctx.Err() == nil {
		return nil, nil
	}
	return batch, err
}

func (l *Live) dropForgotten(ctx context.Context) error {
	first, err := l.log.First(ctx)
	if err != nil {
		return err
	}
	view := l.state.View()
	for resource := range view.Resources() {
		for e := range view.List(resource.Group, resource.Resource, "") {
			if e.Sequence < first {
				l.state.Remove(e.Ref)
			}
		}
	}
	l.current.Store(&moment{l.state.View()})
	return nil
}

// publish shows everybody what was folded: first the view, then the changes,
// then who waited is told.
func (l *Live) publish(f folded) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current.Store(&moment{f.view})
	l.recent.add(f.changes, f.view.Sequence(), room(f.objects))
	l.waiters.reached(f.view.Sequence())
	close(l.moved)
	l.moved = make(chan struct{})
}

func (l *Live) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// ErrClosed says that the projection follows its log no more, because it was
// asked to stop.
var ErrClosed = errors.New("the projection has been closed")

// Close stops following and waits until the last fold is stored.
func (l *Live) Close() error {
	l.cancel()
	<-l.done
	return nil
}

// Done is closed when the projection follows its log no more; Err says why.
func (l *Live) Done() <-chan struct{} { return l.done }

// Err is nil while the projection follows its log, ErrClosed after Close, and
// otherwise what stopped it: the log holds what cannot be folded.
func (l *Live) Err() error {
	select {
	case <-l.done:
		return l.err
	default:
		return nil
	}
}
