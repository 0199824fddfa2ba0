package committer

import (
	"context"

	"github.com/reprise-run/reprise/events"
)

// lines are where proposals wait for the committer: what people ask for, and what
// agents decide, of which there is much more at a time. People go first, in groups of
// their own, which are small and therefore soon durable. But every other group is of
// agents before all else, however many people there are.
type lines struct {
	people, agents line
	alone          bool // people were, in the last group
}

// line is one of them.
type line struct {
	queue chan *request
	held  *request // taken from the queue, not yet into a group
}

func newLines(size int) *lines {
	return &lines{people: line{queue: make(chan *request, size)}, agents: line{queue: make(chan *request, size)}}
}

// of is the line in which a proposal waits. What comes through the API and because of
// no event is what a person, or a program from outside, asks for and waits for.
func (l *lines) of(p *events.Proposal) *line {
	if p.Because == 0 && p.Actor.Kind == "api" {
		return &l.people
	}
	return &l.agents
}

// empty says that nobody waits.
func (l *lines) empty() bool { return !l.people.waits() && !l.agents.waits() }

// wait returns when somebody waits.
func (l *lines) wait(ctx context.Context) error {
	if !l.empty() {
		return nil
	}
	select {
	case l.people.held = <-l.people.queue:
	case l.agents.held = <-l.agents.queue:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// turn returns the lines of which the next group is made, in order.
func (l *lines) turn() []*line {
	both := l.people.waits() && l.agents.waits()
	switch {
	case both && l.alone:
		l.alone = false
		return []*line{&l.agents, &l.people}
	case both:
		l.alone = true
		return []*line{&l.people}
	}
	l.alone = false
	return []*line{&l.people, &l.agents}
}

func (l *line) waits() bool { return l.held != nil || len(l.queue) > 0 }

// take returns who is first in line, or nil.
func (l *line) take() *request {
	if r := l.held; r != nil {
		l.held = nil
		return r
	}
	select {
	case r := <-l.queue:
		return r
	default:
		return nil
	}
}
