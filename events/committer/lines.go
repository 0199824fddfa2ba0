package committer

import (
	"context"

	"github.com/reprise-run/reprise/events"
)

// lines are where proposals wait for the committer: what people ask for, and what
// agents decide, of which there is much more at a time. People go first, in groups of
// their own, which are small and therefore soon durable. But every other group is of
// agents before all else, however many people there are.
//
// Who comes while a group of agents is under way waits for that. So their groups are small
// while a few people come now and then; if many come, who fill groups of their own, agents
// may have as much.
type lines struct {
	people, agents line
	alone          bool // people were, in the last group
	crowd          int  // how many people waited when any did last
	since          int  // how many groups ago that was
}

const (
	// lately is for how many groups of agents people are expected to come again.
	lately = 32
	// fewer is what part of a group agents have then, where they wait for nobody.
	fewer = 4
)

// most is how many events the next group may have if it is not of people alone: all, or few
// if people come now and then.
func (l *lines) most(all, few int) int {
	if l.crowd == 0 || l.since > lately {
		return all
	}
	return min(all, max(few, l.crowd))
}

// line is where proposals of one kind wait, in the order in which they came.
type line struct {
	queue chan *request
	held  *request // taken from the queue, not yet into a group
}

func newLines(size int) *lines {
	return &lines{people: line{queue: make(chan *request, size)}, agents: line{queue: make(chan *request, size)}}
}

// of is the line in which a proposal waits.
func (l *lines) of(p *events.Proposal) *line {
	if p.Awaited() {
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

// turn returns the lines of which the next group is made, in order, and how many events
// it may have: all, or few.
func (l *lines) turn(all, few int) ([]*line, int) {
	l.since++
	if n := l.people.length(); n > 0 {
		l.crowd, l.since = n, 0
	}
	both := l.people.waits() && l.agents.waits()
	switch {
	case both && l.alone:
		l.alone = false
		return []*line{&l.agents, &l.people}, l.most(all, few)
	case both:
		l.alone = true
		return []*line{&l.people}, all
	}
	l.alone = false
	return []*line{&l.people, &l.agents}, l.most(all, few)
}

func (l *line) waits() bool { return l.length() > 0 }

// length is how many wait.
func (l *line) length() int {
	if l.held != nil {
		return len(l.queue) + 1
	}
	return len(l.queue)
}

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
