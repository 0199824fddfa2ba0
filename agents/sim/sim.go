// Package sim runs a whole cluster in one goroutine, from a seed: the log, the
// committer, projections, the scheduler and the controllers on their runners,
// nodes with a simulated container runtime, users, the network between them, and
// the clock. Its tests run thousands of seeds and check after each append that
// nothing is as it must never be.
//
// A seed makes a Plan: what users do and what fails, and when. Run plays a plan,
// in which the seed also draws how long everything takes and which messages are
// lost. The same plan gives the same log, byte for byte, so a failure can be
// looked at again, and be made smaller by leaving parts of the plan out: Shrink.
//
// What is real: events/committer with its recovery of lost answers, runner with
// its queue, all deciders, the fold, agents/node/plan and agents/node/status, the
// owners table. What stands in: memlog for JetStream, a gate without
// authorization and admission for the API (runnertest.Gate), messages for NATS, a
// feed of whole objects for agents/bus/feed, and for the node agent a worker that
// does with a plan what the agent does, on a runtime that only keeps books.
package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
)

// world is one run: the clock, what is to happen, and all parts.
type world struct {
	plan   Plan
	empty  events.Log
	bugs   Bugs
	random *rand.Rand
	now    time.Duration
	agenda agenda
	count  uint64 // of what was ever on the agenda
	still  int    // how much has happened at this moment
	inside *process
	noise  Noise // what is left of the plan's

	log     *log
	lease   map[string]*lease
	servers []*server
	nodes   []*node
	users   *users
	referee *referee

	proposals, epochs, uids uint64
	failed                  *Failure
}

// Failure says which rule a run broke.
type Failure struct {
	// Rule names it, so that a smaller plan can be seen to break the same.
	Rule string
	What string
	At   time.Duration
}

// Error is the failure in one line.
func (f *Failure) Error() string { return fmt.Sprintf("%s, at %s: %s", f.Rule, f.At, f.What) }

// fail ends the run; the first failure counts.
func (w *world) fail(rule, format string, args ...any) {
	if w.failed == nil {
		w.failed = &Failure{rule, fmt.Sprintf(format, args...), w.now}
	}
}

// time is the clock on all walls.
func (w *world) time() time.Time { return runnertest.Epoch.Add(w.now) }

// appointment is something on the agenda.
type appointment struct {
	at    time.Duration
	place uint64
	do    func()
}

// after puts something on the agenda.
func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.agenda, appointment{w.now + max(d, 0), w.count, do})
}

// until lets things happen up to a time, or until something is wrong, or done.
func (w *world) until(end time.Duration, done func() bool) {
	for w.failed == nil && len(w.agenda) > 0 && w.agenda[0].at <= end {
		e := heap.Pop(&w.agenda).(appointment)
		if w.still++; e.at > w.now {
			w.now, w.still = e.at, 0
		} else if w.still > 100_000 {
			w.fail("time goes on", "more than %d things happen at one moment", w.still)
		}
		e.do()
		if done != nil && done() {
			return
		}
	}
	if w.failed == nil && done == nil {
		w.now = max(w.now, end)
	}
}

// between draws a time.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.random.Int64N(int64(most-least)+1))
}

// chance draws whether something with a probability in thousandths happens.
func (w *world) chance(perMille int) bool {
	return perMille > 0 && w.random.IntN(1000) < perMille
}

type agenda []appointment

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].place < a[j].place
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push is heap.Interface's.
func (a *agenda) Push(x any) { *a = append(*a, x.(appointment)) }

// Pop is heap.Interface's.
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = appointment{}
	*a = (*a)[:len(*a)-1]
	return last
}
