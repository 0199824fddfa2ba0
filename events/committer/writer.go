package committer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/reprise-run/reprise/events"
)

// writer is the state of one run of the committer: it owns the order and is used
// by one goroutine.
type writer struct {
	*Committer
	overlay *overlay
	last    uint64                  // the log ends here
	chain   [32]byte                // of the last event
	time    time.Time               // of the last event
	writes  map[events.Ref]standing // lent to each group
	sealed  []byte                  // space for the chain
}

// group is what is appended in one go.
type group struct {
	bench
	accepted []accepted
	late     []late
}

// late is a request that was turned down because of what the group has: that is true only
// once the group is stored.
type late struct {
	*request
	err error
}

// accepted is a request that was judged good, and which of the group's events are
// its own.
type accepted struct {
	*request
	from, to int
}

// newGroup returns one with nothing in it, which has room for so many events.
func (w *writer) newGroup(size int) *group {
	clear(w.writes)
	return &group{
		bench: bench{
			below: w.overlay, next: w.last + 1, volatile: w.opts.Volatile, shape: w.opts.Shape, writes: w.writes,
			events: make([]events.Event, 0, size), after: make([]standing, 0, size),
		},
		accepted: make([]accepted, 0, size),
	}
}

// catchUp learns where the log ends and waits until the index is there. It asks
// until it is told, or until ctx ends.
func (w *writer) catchUp(ctx context.Context) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := w.readEnd(ctx)
		if err == nil {
			return nil
		}
		w.opts.Timing.Sleep(ctx, wait)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// readEnd is catchUp, tried once.
func (w *writer) readEnd(ctx context.Context) error {
	last, err := w.log.Last(ctx)
	if err != nil {
		return fmt.Errorf("asking where the log ends: %w", err)
	}
	if err := w.index.Wait(ctx, last); err != nil {
		return fmt.Errorf("waiting for the projection to fold sequence %d: %w", last, err)
	}
	w.last = last
	if last == 0 {
		return nil
	}
	e, err := w.log.Get(ctx, last)
	if errors.Is(err, events.ErrNotFound) {
		// All events of a log with a limit of age have aged away: the chain begins
		// anew.
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading sequence %d, with which the log ends: %w", last, err)
	}
	w.chain, w.time = e.Chain, e.Time
	return nil
}

// serve is the loop: gather what waits, judge it, append what passes, answer.
// What is refused is answered at once; what is appended, when it is durable.
func (w *writer) serve(ctx context.Context, l *lines) error {
	for {
		if err := l.wait(ctx); err != nil {
			return err
		}
		w.linger(ctx, l)
		// Those who were just answered may come again, and be of this group: a few large ones
		// cost less than many small ones. Where no processor is wanted it takes no time.
		runtime.Gosched()
		if err := w.turn(ctx, l); err != nil {
			return err
		}
	}
}

// linger lets what agents proposed wait for others, but not behind a person's group, and
// not when there is a whole group of it.
func (w *writer) linger(ctx context.Context, l *lines) {
	if w.opts.Gather == 0 || l.alone || l.people.waits() || len(l.agents.queue) >= w.opts.Group {
		return
	}
	enough, cancel := w.opts.Timing.Timeout(ctx, w.opts.Gather)
	defer cancel()
	select {
	case l.people.held = <-l.people.queue:
	case <-enough.Done():
	}
}

// turn deals with what waits.
func (w *writer) turn(ctx context.Context, l *lines) error {
	if err := w.deposed(); err != nil {
		for _, from := range []*line{&l.people, &l.agents} {
			if r := from.take(); r != nil && r.taken.CompareAndSwap(false, true) {
				r.reply <- answer{err: unappended(err)}
			}
		}
		return err
	}
	all, few := w.opts.Group, w.opts.Group/fewer
	if w.opts.Gather > 0 {
		few = all // an append costs more than people's time there
	}
	if err := w.append(ctx, w.gather(l.turn(all, few))); err != nil {
		return err
	}
	return ctx.Err()
}

// deposed says that the log has grown by what this committer did not append, be it
// by the last append of one before it that was long on its way. It would learn that
// from its next append, but there may be none: what rests on the newer events it
// can only turn down.
func (w *writer) deposed() error {
	if folded := w.index.Folded(); folded > w.last {
		return fmt.Errorf("the log has sequence %d, and this committer knows of none after %d: %w", folded, w.last, events.ErrStale)
	}
	return nil
}

// gather takes what waits in some lines, as many events as the group may have at most, and
// judges it in order, each proposal on top of those before it. It looks at no more
// proposals than that either, or else many that are turned down would hold up the good ones.
func (w *writer) gather(from []*line, most int) *group {
	w.overlay.trim()
	waiting := 0
	for _, l := range from {
		waiting += 1 + len(l.queue)
	}
	g := w.newGroup(min(waiting, most))
	looked, bytes := 0, 0
	for _, l := range from {
		for r := l.take(); r != nil; r = l.take() {
			size, more := len(g.events), sizeOf(&r.proposal)
			if size > 0 && (size+len(r.proposal.Changes) > most || bytes+more > mostBytes) || looked >= most {
				l.held = r
				return g
			}
			looked++
			bytes += more
			if !r.taken.CompareAndSwap(false, true) {
				continue // Its caller has given up.
			}
			from := len(g.events)
			if err := g.judge(&r.proposal); err != nil {
				if g.concerns(&r.proposal) {
					g.late = append(g.late, late{r, err})
				} else {
					r.reply <- answer{err: err}
				}
				continue
			}
			g.accepted = append(g.accepted, accepted{r, from, len(g.events)})
			for i := from; i < len(g.events); i++ {
				// A patch of a few bytes makes all of the object anew.
				bytes += max(0, len(g.after[i].raw)-len(g.events[i].Data))
			}
		}
	}
	return g
}

// mostBytes is what a group has at most, unless one proposal alone has more: it is held in
// memory several times, and if it cannot be appended all of it fails. What is turned down
// counts too, and what patches make.
const mostBytes = 16 << 20

// sizeOf is about how many bytes a proposal has.
func sizeOf(p *events.Proposal) (n int) {
	for i := range p.Changes {
		n += len(p.Changes[i].Data) + len(p.Changes[i].Note)
	}
	return n
}

// append puts the group into the log: one by one if that is cheaper, else as one
// batch. After a failure nothing more of the group is appended, for it was judged
// on top of what failed. Append itself fails only if the committer must stop
// because a rival has appended.
func (w *writer) append(ctx context.Context, g *group) error {
	w.seal(g.events)
	all, size := g.accepted, len(g.accepted)
	if len(g.events) <= w.opts.Singly {
		size = 1
	}
	for done := 0; done < len(all); done += size {
		err := w.put(ctx, g, all[done:done+size])
		if err == nil {
			continue
		}
		for _, a := range all[done:] {
			a.reply <- answer{err: unappended(err)}
		}
		for _, l := range g.late {
			l.reply <- answer{err: fmt.Errorf("%w, for it was judged with what the log has not confirmed: %v", events.ErrUnavailable, err)}
		}
		if errors.Is(err, events.ErrUncertain) {
			return w.catchUp(ctx)
		}
		if errors.Is(err, events.ErrStale) {
			return err
		}
		return nil
	}
	for _, l := range g.late {
		l.reply <- answer{err: l.err}
	}
	return nil
}

// seal gives events what depends on their place in the log.
func (w *writer) seal(batch []events.Event) {
	now := millisecond(w.opts.Now())
	if now.Before(w.time) {
		now = w.time
	}
	chain := w.chain
	for i := range batch {
		e := &batch[i]
		e.Time = now
		chain, w.sealed = events.LinkIn(w.sealed, chain, e)
		e.Chain = chain
	}
}

// put appends accepted requests as one batch and answers them, or fails and leaves
// that to the caller.
func (w *writer) put(ctx context.Context, g *group, all []accepted) error {
	from, to := all[0].from, all[len(all)-1].to
	batch := g.events[from:to:to]
	if err := w.store(ctx, batch); err != nil {
		return err
	}
	end := &batch[len(batch)-1]
	w.last, w.chain, w.time = end.Sequence, end.Chain, end.Time
	for i := range batch {
		w.overlay.add(batch[i].Object, g.after[from+i])
	}
	for _, a := range all {
		a.reply <- answer{receipt: events.Receipt{First: g.events[a.from].Sequence, Last: g.events[a.to-1].Sequence}}
	}
	return nil
}

// unappended is what writers are told when the log did not take their events.
func unappended(err error) error {
	if errors.Is(err, events.ErrUncertain) {
		return err
	}
	return fmt.Errorf("%w: %w", events.ErrUnavailable, err)
}

// store appends a batch and finds out the truth if the answer is lost: without
// error the batch is in the log; after ErrUncertain, which comes when patience or
// ctx has ended, it may be; after any other error it is not and will not be.
func (w *writer) store(ctx context.Context, batch []events.Event) error {
	// The append under way is finished even if the committer is to stop: whoever
	// waits for it shall have a clear answer.
	undisturbed := context.WithoutCancel(ctx)
	patient, impatient := w.opts.Timing.Timeout(ctx, w.opts.Patience)
	defer impatient()
	uncertain := false // whether an earlier try may yet arrive
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		try, cancel := w.opts.Timing.Timeout(undisturbed, w.opts.Patience/3)
		_, err := w.log.Append(try, w.last, batch)
		cancel()
		if err == nil {
			return nil
		}
		uncertain = uncertain || errors.Is(err, events.ErrUncertain) || errors.Is(err, context.DeadlineExceeded)
		if !uncertain && !errors.Is(err, events.ErrStale) {
			return err
		}
		// A lost answer, or a stale one, may stand for an earlier try of ours that
		// was stored. The chain tells: nobody else's event has the same.
		switch w.fate(undisturbed, batch) {
		case stored:
			return nil
		case lost:
			return fmt.Errorf("another committer has appended in its place: %w", events.ErrStale)
		}
		// The end that it is refused by may be that which an earlier try will make: a log with
		// replicas goes by what is under way too, and nobody can read that yet.
		if !uncertain {
			return err
		}
		if w.opts.Timing.Sleep(patient, wait); patient.Err() == nil {
			continue
		}
		// What else err is must not be taken for a word on the earlier tries.
		return fmt.Errorf("%w: %v", events.ErrUncertain, err)
	}
}

// fate is what the log tells of a batch.
type fate int

const (
	unknown fate = iota // it may yet be stored
	stored
	lost // another event is in its place, so that it never will be
)

// fate looks for the batch in the log.
func (w *writer) fate(ctx context.Context, batch []events.Event) fate {
	ctx, cancel := w.opts.Timing.Timeout(ctx, w.opts.Patience/3)
	defer cancel()
	for _, mine := range []*events.Event{&batch[len(batch)-1], &batch[0]} {
		e, err := w.log.Get(ctx, mine.Sequence)
		switch {
		case errors.Is(err, events.ErrNotFound):
			// What took its place may have had fewer events.
		case err != nil:
			return unknown
		case !bytes.Equal(e.Chain[:], mine.Chain[:]):
			return lost
		case mine == &batch[len(batch)-1]:
			return stored
		}
	}
	return unknown
}

// millisecond is the precision of times in the log.
func millisecond(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Millisecond)
}
