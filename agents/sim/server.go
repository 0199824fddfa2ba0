package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// server is a process of the control plane: a projection, a gate, and while it
// holds the leases, the committer and those that decide.
type server struct {
	host
	state    *projections.State
	view     projections.Reader
	chain    [32]byte
	ready    bool // has caught up since it started: it serves nobody before
	waiting  []waiting
	volatile *projections.State
	leases   projections.Reader

	term    *committer.Stepper
	offered []offer
	knock   *bell // rung when the committer has something to do
	// beginning says that the committer catches up with the log, terms counts its
	// runs.
	beginning bool
	terms     int
	steppers  []*stepper // nil unless it is elected to decide
	feeds     map[string]*session
}

// waiting is a process that waits for a sequence to be folded.
type waiting struct {
	sequence uint64
	folded   *bell
}

// offer is a proposal in the committer's queue.
type offer struct {
	to      *committer.Stepper
	pending *committer.Pending
	answer  func(events.Receipt, error)
}

// stepper is a decider on its runner.
type stepper struct {
	*runner.Stepper
	ctx    context.Context // ends when another server decides
	cancel context.CancelFunc
	alarm  time.Duration // when it is to step next, 0 for never
}

func newServer(w *world, i int) *server {
	s := &server{host: w.host(fmt.Sprintf("server-%d", i))}
	s.boot()
	return s
}

// boot starts the server with nothing in its memory.
func (s *server) boot() {
	s.host.start()
	s.state, s.volatile = projections.NewState(), projections.NewVolatileState()
	s.view, s.leases = s.state.View(), s.volatile.View()
	s.chain, s.waiting, s.term, s.offered, s.steppers, s.beginning = [32]byte{}, nil, nil, nil, nil, false
	s.feeds, s.ready = map[string]*session{}, false
	s.after(0, s.read)
	// What was not heard of is read all the same.
	s.every(s.w.between(800*time.Millisecond, 1200*time.Millisecond), s.read)
	s.every(s.w.between(leaseTime/5, leaseTime/4), s.stand)
}

// read folds what the log has, whole decisions, mostly all there are.
func (s *server) read() {
	if s.cut > s.w.now {
		return
	}
	if s.state.Sequence() >= s.w.log.last {
		s.ready = true
		return
	}
	from, err := s.w.log.stored.Follow(context.Background(), s.state.Sequence()+1)
	if err != nil {
		s.w.fail("the log can be read", "%s: %v", s.name, err)
		return
	}
	batch, err := from.Next(context.Background())
	if err != nil {
		s.w.fail("the log can be read", "%s: %v", s.name, err)
		return
	}
	if s.chain, err = events.VerifyChain(s.state.Sequence(), s.chain, batch); err != nil {
		s.w.fail("the chain holds", "%s: %v", s.name, err)
		return
	}
	changes, err := s.state.Fold(batch)
	if err != nil {
		s.w.fail("what is stored can be folded", "%s: %v", s.name, err)
		return
	}
	s.view = s.state.View()
	s.ready = s.ready || s.view.Sequence() >= s.w.log.last
	s.publish(changes)
}

// publish shows everybody on the server what was folded.
func (s *server) publish(changes []projections.Change) {
	still := s.waiting[:0]
	for _, x := range s.waiting {
		if x.sequence <= s.view.Sequence() {
			x.folded.ring()
		} else {
			still = append(still, x)
		}
	}
	s.waiting = still
	for _, d := range s.steppers {
		d.Fold(changes, false)
		s.step(d)
	}
	s.feed(changes)
}

// hear takes in the renewal of a node's lease.
func (s *server) hear(e *projections.Entry) {
	s.volatile.Put(e)
	s.volatile.StartAt(s.volatile.Sequence() + 1)
	s.leases = s.volatile.View()
}

// View implements live.Projection.
func (s *server) View() projections.Reader { return s.view }

// Wait implements live.Projection and committer.Index.
func (s *server) Wait(ctx context.Context, sequence uint64) error {
	if s.view.Sequence() >= sequence {
		return nil
	}
	b := &bell{}
	s.waiting = append(s.waiting, waiting{sequence, b})
	s.w.await(b)
	return ctx.Err()
}

// Changes implements live.Projection; runners are told instead.
func (s *server) Changes(context.Context, uint64) (live.Changes, error) {
	return nil, errors.New("nobody follows changes here")
}

// Folded implements committer.Index.
func (s *server) Folded() uint64 { return s.view.Sequence() }

// Lookup implements committer.Index.
func (s *server) Lookup(object events.Ref) (raw []byte, outline events.Outline, uid string, sequence uint64, ok bool) {
	return projections.Standing(s.view, object)
}

// volatiles is the live.Projection of leases.
type volatiles struct{ *server }

// View implements live.Projection.
func (v volatiles) View() projections.Reader { return v.leases }

// complaints takes what runners log: an error is a decision that broke a rule, or a
// decider that panicked.
type complaints struct{ w *world }

// Enabled implements slog.Handler.
func (complaints) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

// Handle implements slog.Handler.
func (c complaints) Handle(_ context.Context, r slog.Record) error {
	what := r.Message
	r.Attrs(func(a slog.Attr) bool { what += ", " + a.String(); return true })
	c.w.fail("deciders keep the rules", "%s", what)
	return nil
}

// WithAttrs implements slog.Handler.
func (c complaints) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements slog.Handler.
func (c complaints) WithGroup(string) slog.Handler { return c }

// watch is the runner's clock.
type watch struct {
	clock.Clock
	w *world
}

// Now implements clock.Clock.
func (c watch) Now() time.Time { return c.w.time() }

// stand stands for both elections, holds on to what it was elected for, or gives
// it up.
func (s *server) stand() {
	if !s.ready {
		return
	}
	s.elect(s.w.lease["committer"], s.term != nil, s.commit, s.depose)
	s.elect(s.w.lease["deciders"], s.steppers != nil, s.decide, s.dismiss)
}

func (s *server) elect(l *lease, active bool, begin, end func()) {
	now, reaches := s.w.now, s.cut <= s.w.now
	switch {
	case l.holder == s && (l.until <= now || !reaches && l.until-now < leaseTime/4):
		l.holder = nil // and stays taken until it expires
		end()
	case l.holder == s && reaches:
		l.until = now + leaseTime
		if !active {
			begin()
		}
	case l.holder != s && active:
		end()
	case l.holder != s && reaches && l.until <= now:
		l.holder, l.until = s, now+leaseTime
		begin()
	}
}

// depose has the committer stop after the append that is under way.
func (s *server) depose() {
	s.terms++
	s.term = nil
	if s.knock != nil {
		s.knock.ring()
	}
}

// commit runs the committer until it is deposed or finds that it has been.
func (s *server) commit() {
	if s.beginning {
		return
	}
	s.beginning = true
	s.terms++
	term := s.terms
	s.run(0, func() {
		ctx := context.Background()
		o := committer.Options{Shape: projections.CheckShape, Now: s.w.time, Timing: waits{s.w}, Group: s.w.plan.Group}
		if !s.w.plan.Singly {
			o.Singly = -1
		}
		c := committer.New(reader{s.w.log, s}, s, o)
		t, err := c.Begin(ctx)
		s.beginning = false
		if err != nil || s.terms != term {
			return
		}
		s.term = t
		for s.terms == term {
			if t.Idle() {
				s.knock = &bell{}
				s.w.await(s.knock)
				continue
			}
			err := t.Turn(ctx)
			s.answer(t, err != nil || s.terms != term)
			if err != nil {
				break
			}
		}
		if s.terms == term {
			s.term = nil // and stands for election again
		}
		s.answer(t, true)
	})
}

// answer passes on what the committer of a term has answered; over says that it will answer
// no more. The one of the term before may still be at its last append.
func (s *server) answer(of *committer.Stepper, over bool) {
	still := s.offered[:0]
	var done []func()
	for _, o := range s.offered {
		if o.to != of {
			still = append(still, o)
			continue
		}
		receipt, err, answered := o.pending.Answer()
		if s.w.bugs.Denies && errors.Is(err, events.ErrUncertain) {
			err = events.ErrUnavailable
		}
		switch {
		case answered:
			done = append(done, func() { o.answer(receipt, err) })
		case over:
			done = append(done, func() { o.answer(events.Receipt{}, events.ErrUnavailable) })
		default:
			still = append(still, o)
		}
	}
	s.offered = still
	for _, f := range done {
		f()
	}
}

// offer puts a proposal in the committer's queue.
func (s *server) offer(p events.Proposal, answer func(events.Receipt, error)) {
	if s.term == nil {
		answer(events.Receipt{}, events.ErrUnavailable)
		return
	}
	if s.w.bugs.NoExpectations {
		p.Expect, p.Basis = nil, s.w.log.last
	}
	pending := s.term.Offer(p)
	if pending == nil {
		answer(events.Receipt{}, events.ErrUnavailable)
		return
	}
	s.offered = append(s.offered, offer{s.term, pending, answer})
	if s.knock != nil {
		s.knock.ring()
	}
}

// decide starts those that decide.
func (s *server) decide() {
	s.steppers = nil
	for _, d := range s.w.deciders() {
		r := runner.New(d, runner.Options{
			Projection: s, Volatile: volatiles{s}, Proposer: proposer{s.w, &s.host, s}, Gate: s.gate(""),
			Clock: watch{w: s.w}, Logger: slog.New(complaints{s.w}), Workers: 4,
		})
		x := &stepper{}
		x.ctx, x.cancel = context.WithCancel(context.Background())
		t := threads{&s.host, func() { s.step(x) }}
		x.Stepper = r.Stepper(t)
		s.steppers = append(s.steppers, x)
		s.after(s.w.between(0, time.Millisecond), func() { s.step(x) })
	}
}

// dismiss has those that decide begin nothing more. What they have proposed goes on,
// and who decides next does not know of it.
func (s *server) dismiss() {
	for _, x := range s.steppers {
		x.cancel()
	}
	s.steppers = nil
	for owner, n := range s.w.referee.open {
		s.w.referee.doubts[owner] += n
	}
}

// step has a decider's loop step, now and when it asks to.
func (s *server) step(d *stepper) {
	if !slices.Contains(s.steppers, d) {
		return
	}
	at := d.Step(d.ctx)
	if at.IsZero() {
		return
	}
	due := max(at.Sub(runnertest.Epoch), s.w.now+time.Millisecond)
	if d.alarm > s.w.now && d.alarm <= due {
		return
	}
	d.alarm = due
	s.after(due-s.w.now, func() {
		if d.alarm == due {
			d.alarm = 0
			s.step(d)
		}
	})
}

// gate is the server's, for what a user or, if that is empty, a controller does.
func (s *server) gate(user string) runnertest.Gate {
	return runnertest.Gate{Projection: s, Proposer: proposer{s.w, &s.host, s}, Now: s.w.time, User: user, UID: s.w.uid}
}
