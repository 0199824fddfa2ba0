// Package plan decides what a delivery sends, when it tries again, and when it
// gives up. It is a state machine: it is told what was read and what became of
// each attempt, and says what to do; it sends nothing itself and reads no clock.
//
// Events of one object are sent in the order of the log, one at a time; those of
// different objects side by side. An event that the receiver does not take keeps
// back the later events of its own object, and no others, until it is accepted or
// given up as a dead letter; then they go on without it.
package plan

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Options say how patient a delivery is.
type Options struct {
	// Window is how many events it holds at a time, and Parallel how many of them
	// are under way.
	Window, Parallel int
	// Pause is how long it waits after a first failure; it doubles up to Longest.
	Pause, Longest time.Duration
	// GiveUp is how long it tries to deliver one event.
	GiveUp time.Duration
	// Seed makes the pauses of one delivery differ from those of another.
	Seed uint64
}

// Defaults are for production.
func Defaults() Options {
	return Options{Window: 1024, Parallel: 16, Pause: time.Second, Longest: 5 * time.Minute, GiveUp: time.Hour}
}

// Verdict is what became of an attempt.
type Verdict int

// The verdicts.
const (
	// Accepted: the receiver has it.
	Accepted Verdict = iota
	// Refused: the receiver will never take it.
	Refused
	// Failed: the receiver answered that it cannot take it now.
	Failed
	// Unreachable: there was no answer, or none of the receiver that was meant.
	Unreachable
)

// Outcome is what became of an attempt, and why.
type Outcome struct {
	Verdict Verdict
	Reason  string
	// After is how long the receiver asks to be left alone, zero if it does not.
	After time.Duration
}

// Action is something to do: to send an event, or to bury it.
type Action struct {
	Sequence uint64
	// Attempt counts from 1.
	Attempt int
	// Bury says that the event is a dead letter. It was tried Attempt times since
	// Since, the last time in vain for the Reason.
	Bury   bool
	Reason string
	Since  time.Time
}

// letter is an event on its way.
type letter struct {
	sequence uint64
	object   events.Ref
	attempts int
	since    time.Time // of the first attempt
	due      time.Time // of the next
	busy     bool      // an action on it is under way
	dead     string    // why it is to be buried
}

// Plan is the state of a delivery. It is used by one goroutine.
type Plan struct {
	opts     Options
	read     uint64
	held     map[uint64]*letter
	objects  map[events.Ref][]*letter // in the order of the log; the first may be sent
	busy     int
	accepted time.Time // when the receiver last took anything
}

// New returns a plan that goes on after a position. What was open then must be
// taken first.
func New(opts Options, at events.DeliveryPosition) *Plan {
	return &Plan{opts: opts, read: at.Read, held: map[uint64]*letter{}, objects: map[events.Ref][]*letter{}}
}

// Room is how many events may be taken now.
func (p *Plan) Room() int { return max(0, p.opts.Window-len(p.held)) }

// Take adds an event to be delivered. One that it holds already is ignored.
func (p *Plan) Take(sequence uint64, object events.Ref) {
	if p.held[sequence] != nil {
		return
	}
	p.read = max(p.read, sequence)
	l := &letter{sequence: sequence, object: object}
	p.held[sequence] = l
	p.objects[object] = append(p.objects[object], l)
}

// Position is what must be kept to go on after a restart.
func (p *Plan) Position() events.DeliveryPosition {
	at := events.DeliveryPosition{Read: p.read}
	for sequence := range p.held {
		at.Open = append(at.Open, sequence)
	}
	slices.Sort(at.Open)
	return at
}

// Next returns what to do now, and when to ask again if nothing happens before,
// the zero time for never.
func (p *Plan) Next(now time.Time) (do []Action, wake time.Time) {
	for _, l := range p.heads() {
		switch {
		case l.busy:
		case l.dead != "":
			l.busy = true
			do = append(do, Action{Sequence: l.sequence, Attempt: l.attempts, Bury: true, Reason: l.dead, Since: l.since})
		case l.due.After(now):
			if wake.IsZero() || l.due.Before(wake) {
				wake = l.due
			}
		case p.busy < p.opts.Parallel:
			if l.attempts == 0 {
				l.since = now
			}
			l.attempts++
			l.busy = true
			p.busy++
			do = append(do, Action{Sequence: l.sequence, Attempt: l.attempts})
		}
	}
	return do, wake
}

// heads are the events that are first of their objects: oldest first.
func (p *Plan) heads() []*letter {
	heads := make([]*letter, 0, len(p.objects))
	for _, queue := range p.objects {
		heads = append(heads, queue[0])
	}
	slices.SortFunc(heads, func(a, b *letter) int { return cmp.Compare(a.sequence, b.sequence) })
	return heads
}

// Answered tells what became of an attempt.
func (p *Plan) Answered(now time.Time, sequence uint64, o Outcome) {
	l := p.held[sequence]
	if l == nil || !l.busy {
		return
	}
	l.busy = false
	p.busy--
	switch {
	case o.Verdict == Accepted:
		p.accepted = now
		p.done(l)
	case o.Verdict == Refused:
		l.dead = o.Reason
	case p.hopeless(now, l, o):
		l.dead = o.Reason
	default:
		l.due = now.Add(max(p.pause(l), o.After))
	}
}

// hopeless says whether to give an event up: after a while, or soon if so many
// events of its object wait for it that they would hold up all others. As long as
// the receiver answers nobody, it is away, and that is not the event's fault.
func (p *Plan) hopeless(now time.Time, l *letter, o Outcome) bool {
	if o.Verdict != Failed && !p.accepted.After(l.since) {
		return false
	}
	crowded := len(p.objects[l.object]) > p.opts.Window/4 && l.attempts >= triesInCrowd
	return crowded || now.Sub(l.since) >= p.opts.GiveUp
}

// triesInCrowd is how often an event is tried while many of its object wait.
const triesInCrowd = 7

// Buried tells that a dead letter is kept.
func (p *Plan) Buried(sequence uint64) {
	if l := p.held[sequence]; l != nil && l.dead != "" {
		p.done(l)
	}
}

// NotBuried tells that a dead letter could not be kept: Next asks for it again.
func (p *Plan) NotBuried(sequence uint64) {
	if l := p.held[sequence]; l != nil {
		l.busy = false
	}
}

func (p *Plan) done(l *letter) {
	delete(p.held, l.sequence)
	if p.objects[l.object] = p.objects[l.object][1:]; len(p.objects[l.object]) == 0 {
		delete(p.objects, l.object)
	}
}

// pause grows with the attempts, and is between half and all of what it grew to,
// so that what failed together is not tried again together.
func (p *Plan) pause(l *letter) time.Duration {
	grown := p.opts.Longest
	if n := l.attempts - 1; n < 32 {
		grown = min(grown, p.opts.Pause<<n)
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d %d", p.opts.Seed, l.sequence, l.attempts)
	return grown/2 + time.Duration(h.Sum64()%uint64(grown/2+1))
}
