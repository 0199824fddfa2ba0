// Package replay asks this program's deciders again what was once decided, and
// compares the answers. The history says of each decision what it was made on
// (Event.Basis, Now and Asked), so for a build that behaves as the one before
// there is no difference; and where there is one, it is between two builds and
// not between two runs.
//
// A Replay folds the events in order, each once. It reads ahead as far as a
// decision may come after the view that it was made on, and asks when the fold
// has come to that view. So it needs room for the state and for what is read
// ahead, whatever the length of the log.
//
// A Trial answers another question: what the scheduler would have done with the
// same pods and nodes had it been set up otherwise.
//
// docs/replay.md says what cannot be compared, and why.
package replay

import (
	"fmt"
	"strings"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Maker returns the decider that an actor is in this program, set up as a Tuned
// decider says; setup is nil for the default. It says false if this program has
// none.
type Maker func(actor string, setup []byte) (d runner.Decider, known bool, err error)

// Options adjust a Replay. The zero value compares all there is with this
// program's deciders.
type Options struct {
	// Make returns the deciders; Deciders if nil.
	Make Maker
	// From and To are the sequences of the first and the last event whose
	// decision is compared. To is the end if zero.
	From, To uint64
	// State is the cluster before the first event that is fed; empty if nil.
	State *projections.State
	// Ahead is how many events are read ahead: how far a decision may lie behind
	// its basis. 32,768 if zero.
	Ahead int
	// Difference, if set, is told of each difference, in the order of the bases.
	Difference func(Difference)
}

// Replay compares the decisions of a log with those of this program. Feed it the
// events and then Finish.
type Replay struct {
	opts     Options
	state    *projections.State
	began    uint64 // the sequence before the first event
	fed      uint64
	ahead    []events.Event // read and not folded
	due      map[uint64][]*question
	deciders map[string]made
	report   Report
}

type made struct {
	decider runner.Decider
	known   bool
	err     error
}

// New returns a replay that has seen nothing yet.
func New(o Options) *Replay {
	if o.Make == nil {
		o.Make = Deciders
	}
	if o.Ahead == 0 {
		o.Ahead = 1 << 15
	}
	if o.State == nil {
		o.State = projections.NewState()
	}
	return &Replay{
		opts: o, state: o.State, began: o.State.Sequence(), fed: o.State.Sequence(),
		due: map[uint64][]*question{}, deciders: map[string]made{}, report: Report{agents: map[string]*Tally{}},
	}
}

// Feed takes events that follow those before. They belong to the replay from
// here on.
func (r *Replay) Feed(batch []events.Event) error {
	for i := range batch {
		e := &batch[i]
		if e.Sequence != r.fed+1 {
			return &projections.GapError{Folded: r.fed, Next: e.Sequence}
		}
		r.fed = e.Sequence
		r.file(e)
		r.ahead = append(r.ahead, *e)
		if len(r.ahead) > r.opts.Ahead {
			if err := r.step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Finish asks what is still to be asked and returns how it all came out.
func (r *Replay) Finish() (Report, error) {
	for len(r.ahead) > 0 {
		if err := r.step(); err != nil {
			return r.report, err
		}
	}
	r.report.To = r.fed
	return r.report, nil
}

// step asks what was asked of the state as it is, and folds one event.
func (r *Replay) step() error {
	due := r.due[r.state.Sequence()]
	delete(r.due, r.state.Sequence())
	for _, q := range due {
		r.ask(q)
	}
	e := r.ahead[:1:1]
	r.ahead = r.ahead[1:]
	if _, err := r.state.Fold(e); err != nil {
		return fmt.Errorf("cannot replay: %w", err)
	}
	r.report.Events++
	return nil
}

// ask puts one question and compares.
func (r *Replay) ask(q *question) {
	tally := r.report.tally(q.asked.By)
	tally.Decisions++
	tally.Events += len(q.events)
	d, reason := r.decider(q)
	if reason == "" {
		reason = q.unanswerable()
	}
	if reason != "" {
		tally.skip(reason)
		return
	}
	if q.guess {
		r.askAround(q, d, tally)
		return
	}
	result, err := decide(d, q.view(r.state.View()), q.item, q.now)
	difference, same := q.compare(result, err)
	if same {
		tally.Equal++
		return
	}
	r.report.Differences++
	tally.Different++
	if r.opts.Difference != nil {
		r.opts.Difference(difference)
	}
}

// decider returns whom to ask, or why nobody can be.
func (r *Replay) decider(q *question) (d runner.Decider, reason string) {
	key := q.asked.By + "\n" + string(q.asked.Setup)
	m, ok := r.deciders[key]
	if !ok {
		m.decider, m.known, m.err = r.opts.Make(q.asked.By, q.asked.Setup)
		if len(r.deciders) > maxDeciders {
			clear(r.deciders)
		}
		r.deciders[key] = m
	}
	switch {
	case m.err != nil:
		return nil, "this program cannot be set up as the decider was: " + m.err.Error()
	case !m.known && strings.HasPrefix(q.asked.By, "node:"):
		return nil, reasonNode
	case !m.known:
		return nil, "this program has no such decider"
	}
	return m.decider, ""
}

// maxDeciders bounds how many deciders are kept that differ in their setup only.
const maxDeciders = 1000

// Asking a decider must not end the replay, whatever it does.
func decide(d runner.Decider, v runner.View, item runner.Item, now time.Time) (r runner.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a bug in the decider: %v", p)
		}
	}()
	return d.Decide(v, item, now), nil
}
