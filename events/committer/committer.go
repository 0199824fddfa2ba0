// Package committer is the single writer of a log: the one place where proposals
// get their order. It checks each against the owners table, against what its
// actor may speak of, and against its expectations; gives what passes its time,
// cause and hash chain; appends it; and answers once it is durable.
//
// The server that holds the lease runs it (Elected); everybody else reaches it
// as an events.Proposer. It never decides anything itself, never reads its own
// log but at the start and after an append whose answer was lost, and never
// appends beside a rival: each append carries the sequence that the log must end
// at.
package committer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Index is the committer's window on the projection of its log: how each object
// stands now.
type Index interface {
	// Lookup returns the object's canonical JSON with what is known of its outline,
	// its uid and the sequence of its latest event. It says false if there is no such
	// object.
	Lookup(object events.Ref) (raw []byte, outline events.Outline, uid string, sequence uint64, ok bool)
	// Folded is the sequence up to which Lookup tells.
	Folded() uint64
	// Wait returns once Folded has reached the sequence.
	Wait(ctx context.Context, sequence uint64) error
}

// Options adjust a Committer. The zero value is for production.
type Options struct {
	// Volatile says that the log is the one for volatile objects, and takes only
	// these; otherwise it takes all others.
	Volatile bool
	// Shape refuses what a node writes if an object would come of it that is not
	// of its kind's shape: projections.CheckShape. Nodes are trusted if nil.
	Shape func(events.Change, []events.Op) error
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Queue is how many proposals may wait before Propose blocks; 4,096 if 0.
	Queue int
	// Group is how many events are gathered into one append at most; 256 if 0.
	Group int
	// Singly is how many events that wait are still appended decision by decision,
	// where an atomic batch costs the log more than so many; 12 if 0, none if negative.
	Singly int
	// Gather is how long agents' proposals wait for others before they are appended, in
	// a log where nobody waits for them; a person's proposal ends it. Not at all if 0.
	Gather time.Duration
	// Patience is how long the committer tries to learn what became of an append
	// before it leaves the writers uncertain; 15 s if 0.
	Patience time.Duration
	// Timing is how the committer waits; by the machine's clock if nil.
	Timing Timing
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timing == nil {
		o.Timing = realTiming{}
	}
	o.Queue = orElse(o.Queue, 4096)
	o.Group = min(orElse(o.Group, 256), events.MaxBatch)
	o.Singly = orElse(o.Singly, 12)
	o.Patience = orElse(o.Patience, 15*time.Second)
	return o
}

func orElse[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Committer is the single writer of one log. It writes while Run runs; many may
// Propose at once.
type Committer struct {
	log   events.Log
	index Index
	opts  Options
	term  atomic.Pointer[term] // nil while Run does not run

	once  sync.Once
	begun chan struct{}
}

var _ events.Offerer = (*Committer)(nil)

// term is one run of the loop.
type term struct {
	lines *lines
	over  chan struct{} // closed when the loop has answered all that it took
}

// request is a proposal on its way to the loop.
type request struct {
	proposal events.Proposal
	// taken is set by whoever decides the request's fate: the loop that starts on
	// it, or the caller who gives up while it is queued.
	taken atomic.Bool
	// reply holds one answer.
	reply chan answer
}

type answer struct {
	receipt events.Receipt
	err     error
}

// New returns the committer of a log, given the projection of that same log.
func New(log events.Log, index Index, opts Options) *Committer {
	return &Committer{log: log, index: index, opts: opts.withDefaults(), begun: make(chan struct{})}
}

// Begun is closed when Run takes proposals for the first time.
func (c *Committer) Begun() <-chan struct{} { return c.begun }

// Propose is events.Proposer's. It waits for room in the queue, and for the
// answer. If ctx ends first it says whether the proposal may still be appended.
func (c *Committer) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	answer, err := c.Offer(ctx, p)
	if err != nil {
		return events.Receipt{}, err
	}
	return answer()
}

// Offer is events.Offerer's. It waits for room in the queue.
func (c *Committer) Offer(ctx context.Context, p events.Proposal) (func() (events.Receipt, error), error) {
	t := c.term.Load()
	if t == nil {
		return nil, fmt.Errorf("the committer does not run in this process: %w", events.ErrUnavailable)
	}
	r := &request{proposal: p, reply: make(chan answer, 1)}
	select {
	case t.lines.of(&r.proposal).queue <- r:
	case <-t.over:
		return nil, errOver
	case <-ctx.Done():
		return nil, fmt.Errorf("the committer's queue is full: %w (%w)", events.ErrUnavailable, ctx.Err())
	}
	return func() (events.Receipt, error) { return t.await(ctx, r) }, nil
}

// await waits for the answer to a request that is in line.
func (t *term) await(ctx context.Context, r *request) (events.Receipt, error) {
	select {
	case a := <-r.reply:
		return a.receipt, a.err
	case <-t.over:
		if r.taken.CompareAndSwap(false, true) {
			return events.Receipt{}, errOver
		}
		a := <-r.reply
		return a.receipt, a.err
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return events.Receipt{}, fmt.Errorf("the committer did not come to it in time: %w (%w)", events.ErrUnavailable, ctx.Err())
		}
		select {
		case a := <-r.reply: // Its caller, who waited for others' meanwhile, comes late for it.
			return a.receipt, a.err
		default:
			return events.Receipt{}, fmt.Errorf("%w: %w", events.ErrUncertain, ctx.Err())
		}
	}
}

var errOver = fmt.Errorf("the committer has stopped: %w", events.ErrUnavailable)

// Run catches up with the log and then serves proposals until ctx ends, which it
// returns, or until somebody else has appended, when it fails with ErrStale. It
// finishes the append that is under way. It may be called again.
func (c *Committer) Run(ctx context.Context) error {
	t := &term{lines: newLines(c.opts.Queue), over: make(chan struct{})}
	if !c.term.CompareAndSwap(nil, t) {
		return errors.New("the committer runs already")
	}
	c.once.Do(func() { close(c.begun) })
	defer close(t.over)
	defer c.term.Store(nil)
	w, err := c.begin(ctx)
	if err != nil {
		return err
	}
	return w.serve(ctx, t.lines)
}

// begin catches up with the log.
func (c *Committer) begin(ctx context.Context) (*writer, error) {
	w := &writer{Committer: c, overlay: newOverlay(c.index), writes: map[events.Ref]standing{}}
	if err := w.catchUp(ctx); err != nil {
		return nil, fmt.Errorf("catching up with the log: %w", err)
	}
	return w, nil
}
