package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/reprise-run/reprise/events"
)

// The most commands and decisions of one result that are under way at a time, and the
// most commands that wait for each other. Side by side they share the committer's batches.
const (
	maxCommands  = 16
	maxTogether  = 64
	maxDecisions = 256
)

// work decides items and carries out what was decided. All their decisions are
// appended together.
func (l *loop) work(ctx context.Context, jobs []job) []result {
	out := make([]result, len(jobs))
	all := make([]events.Proposal, 0, len(jobs))
	var of []int // whose they are
	for i, j := range jobs {
		out[i].it = j.it
		item := j.item
		v, saw := watched(l.view())
		now := l.now()
		r, err := l.decide(v, item, now)
		if err != nil {
			l.Logger.Error("cannot decide", "item", item.Ref.String(), "basis", v.Sequence(), "error", err)
			out[i].retry = true
			continue
		}
		from := Origin{Basis: v.Sequence(), Now: now, Asked: l.asked(item, saw, r)}
		for j := range r.Commands {
			r.Commands[j].Origin = from
		}
		out[i].outcome = l.command(ctx, item, r.Commands)
		out[i].wake = r.Wake
		all = slices.Grow(all, len(r.Decisions))
		for _, d := range r.Decisions {
			all, of = append(all, l.proposal(d, from)), append(of, i)
		}
	}
	for i, o := range l.propose(ctx, all) {
		out[of[i]].merge(o)
	}
	return out
}

// decide calls the decider. If that panics, which only a bug in it can bring
// about, the item is left for later, and all others are none the worse.
func (l *loop) decide(v View, item Item, now time.Time) (r Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a bug in the decider: %v\n%s", p, debug.Stack())
		}
	}()
	return l.decider.Decide(v, item, now), nil
}

func (o *outcome) merge(p outcome) {
	o.last = max(o.last, p.last)
	o.again = o.again || p.again
	o.retry = o.retry || p.retry
	if o.refused == "" {
		o.refused = p.refused
	}
}

// command carries out commands in order until one fails. Like ones run side by
// side, twice as many each time: what is refused is noticed early.
func (l *loop) command(ctx context.Context, item Item, commands []Command) outcome {
	var o outcome
	for size := 1; len(commands) > 0; size = min(2*size, maxTogether) {
		n := alike(commands, size)
		if n < size {
			size = 1
		}
		for _, p := range sideBySide(l.threads, commands[:n], maxCommands, func(c Command) outcome { return l.do(ctx, item, c) }) {
			o.merge(p)
		}
		if o.retry || o.again {
			return o
		}
		commands = commands[n:]
	}
	return o
}

// alike counts the first commands, at most limit, that do the same to objects
// of the same resource.
func alike(commands []Command, limit int) int {
	first := commands[0]
	n := 1
	for n < min(len(commands), limit) {
		c := commands[n]
		if c.Verb != first.Verb || c.Object.Group != first.Object.Group || c.Object.Resource != first.Object.Resource {
			break
		}
		n++
	}
	return n
}

func (l *loop) do(ctx context.Context, item Item, c Command) outcome {
	if l.Gate == nil {
		panic("the decider of " + l.actor.String() + " has commands, but its runner was given no gate")
	}
	if events.Volatile(c.Object) {
		c.Origin = Origin{} // no history, so nothing to ask again
	}
	sequence, err := l.Gate.Do(ctx, l.actor, c)
	switch {
	case err == nil && events.Volatile(c.Object):
		return outcome{} // its sequences are not the history's
	case err == nil:
		return outcome{last: sequence}
	case ctx.Err() != nil:
		return outcome{again: true}
	case apierrors.IsConflict(err):
		return outcome{retry: true} // a precondition: the view was behind
	case transient(err):
		l.Logger.Debug("cannot command now", "item", item.Ref.String(), "verb", c.Verb, "object", c.Object.String(), "error", err)
		return outcome{retry: true}
	}
	l.Logger.Warn("command refused", "item", item.Ref.String(), "verb", c.Verb, "object", c.Object.String(), "failures", item.Failures+1, "error", err)
	return outcome{retry: true, refused: err.Error()}
}

// transient says whether an error speaks of the moment and not of the command.
func transient(err error) bool {
	return errors.Is(err, events.ErrUnavailable) || errors.Is(err, events.ErrUncertain) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err)
}

func (l *loop) proposal(d events.Decision, from Origin) events.Proposal {
	p := events.Proposal{Decision: d, Actor: l.actor, Basis: from.Basis, Now: from.Now, Asked: from.Asked}
	if p.Volatile() {
		p.Asked = nil // no history, so nothing to ask again
	}
	return p
}

// propose appends decisions, side by side, and returns what came of each.
func (l *loop) propose(ctx context.Context, all []events.Proposal) []outcome {
	to, offers := l.Proposer.(events.Offerer)
	if !offers || len(all) == 1 {
		return sideBySide(l.threads, all, maxDecisions, func(p events.Proposal) outcome {
			receipt, err := l.Proposer.Propose(ctx, p)
			return l.appended(ctx, &p, receipt, err)
		})
	}
	out := make([]outcome, 0, len(all))
	for some := range slices.Chunk(all, maxDecisions) {
		answers := make([]func() (events.Receipt, error), len(some))
		for i, p := range some {
			answer, err := to.Offer(ctx, p)
			if err != nil {
				answer = func() (events.Receipt, error) { return events.Receipt{}, err }
			}
			answers[i] = answer
		}
		for i, answer := range answers {
			receipt, err := answer()
			out = append(out, l.appended(ctx, &some[i], receipt, err))
		}
	}
	return out
}

// appended is what came of a proposal that was answered.
func (l *loop) appended(ctx context.Context, p *events.Proposal, receipt events.Receipt, err error) outcome {
	volatile := p.Volatile()
	var conflict *events.ConflictError
	switch {
	case err == nil && volatile:
		return outcome{} // its sequences are not the history's
	case err == nil:
		return outcome{last: receipt.Last}
	case ctx.Err() != nil:
		return outcome{again: true}
	case errors.As(err, &conflict) && volatile:
		return outcome{retry: true}
	case errors.As(err, &conflict) && conflict.Actual > p.Basis:
		// The normal way in which two writers meet: catch up and decide again.
		return outcome{again: true, last: conflict.Actual}
	case errors.As(err, &conflict) && conflict.Actual == 0:
		return outcome{retry: true} // it is gone; its removal is on its way
	case transient(err):
		l.Logger.Debug("cannot append now", "type", p.Changes[0].Type, "object", p.Changes[0].Object.String(), "basis", p.Basis, "error", err)
	default:
		l.Logger.Error("decision refused", "type", p.Changes[0].Type, "object", p.Changes[0].Object.String(), "basis", p.Basis, "error", err)
	}
	return outcome{retry: true}
}

// sideBySide calls do for each, at most limit at a time, and returns the
// outcomes in the order of the input.
func sideBySide[T any](threads Threads, list []T, limit int, do func(T) outcome) []outcome {
	out := make([]outcome, len(list))
	if len(list) == 1 {
		out[0] = do(list[0])
		return out
	}
	threads.All(len(list), limit, func(i int) { out[i] = do(list[i]) })
	return out
}
