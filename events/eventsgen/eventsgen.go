// Package eventsgen makes logs of any length: the life of a cluster, as its
// committer would have written it, from a seed. They serve benchmarks and tests
// that need a long history: the objects have the size and the shape that the API
// server stores, people and controllers act in turn, things fail now and then,
// causes lead back to a person or an outside fact, and the hash chain is right.
//
// The same options give the same bytes, on any machine. A generator remembers
// only what is alive, so its memory does not grow with the log.
package eventsgen

import (
	"container/heap"
	"iter"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Options say which log to make.
type Options struct {
	// Seed is where all chance comes from.
	Seed uint64
	// Events is how long the log is to be.
	Events uint64
	// Pods is about how many pods are alive once the cluster has grown up. If 0,
	// 12,000, or one for each 60 events of a shorter log.
	Pods int
}

// Generator is a cluster whose life is being made up.
type Generator struct {
	random
	opts     Options
	now      int64 // milliseconds since 1970
	clock    clock
	sequence uint64 // of the last event that was made up
	chain    [32]byte
	given    uint64 // how many events Next has returned
	agenda   agenda
	made     uint64 // actions put on the agenda so far
	out      []events.Event
	next     int // the first of out that Next has not returned

	nodes       []*node
	namespaces  []*namespace
	deployments []*deployment
	backups     []*backup
	wanted      int // pods that the deployments ask for
	apps        int // deployments made so far
}

// begin is when every log begins.
var begin = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)

// New returns a generator at the log's beginning.
func New(o Options) *Generator {
	if o.Pods == 0 {
		o.Pods = int(max(min(12_000, o.Events/60), 5))
	}
	g := &Generator{random: random{o.Seed}, opts: o, now: begin.UnixMilli()}
	g.found()
	return g
}

// Next returns the event that follows in the log, and false after the last.
func (g *Generator) Next() (events.Event, bool) {
	if g.given == g.opts.Events {
		return events.Event{}, false
	}
	for g.next == len(g.out) {
		g.out, g.next = g.out[:0], 0
		g.act()
	}
	ev := g.out[g.next]
	g.out[g.next] = events.Event{} // Its bytes are the caller's.
	g.next++
	g.given++
	if g.given == g.opts.Events {
		ev.More = false
	}
	g.chain = events.Link(g.chain, &ev)
	ev.Chain = g.chain
	return ev, true
}

// Batches yields the log in slices of about size events, each ending at the end
// of a decision. A slice is the caller's.
func (g *Generator) Batches(size int) iter.Seq[[]events.Event] {
	return func(yield func([]events.Event) bool) {
		batch := make([]events.Event, 0, size)
		for ev, ok := g.Next(); ok; ev, ok = g.Next() {
			batch = append(batch, ev)
			if len(batch) < size || ev.More {
				continue
			}
			if !yield(batch) {
				return
			}
			batch = make([]events.Event, 0, size)
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}

// act takes the next action off the agenda.
func (g *Generator) act() {
	a := heap.Pop(&g.agenda).(action)
	g.now = a.at
	a.do()
}

// after puts an action on the agenda.
func (g *Generator) after(ms int64, do func()) {
	g.made++
	heap.Push(&g.agenda, action{g.now + ms, g.made, do})
}

// action is what is to happen at a time; order tells apart what happens at once.
type action struct {
	at    int64
	order uint64
	do    func()
}

// agenda is a heap of what is to come.
type agenda []action

// Len is heap.Interface's.
func (a agenda) Len() int { return len(a) }

// Less is heap.Interface's.
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || (a[i].at == a[j].at && a[i].order < a[j].order)
}

// Swap is heap.Interface's.
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push is heap.Interface's.
func (a *agenda) Push(x any) { *a = append(*a, x.(action)) }

// Pop is heap.Interface's.
func (a *agenda) Pop() any {
	n := len(*a) - 1
	x := (*a)[n]
	(*a)[n] = action{}
	*a = (*a)[:n]
	return x
}

// object is what is remembered of an object: not what it says, only how it may
// be spoken of.
type object struct {
	ref  events.Ref
	uid  string
	last uint64 // sequence of its last event
	gone bool
}

// who writes: the program, and on whose request if it is the gate.
type who struct {
	actor events.Actor
	user  string
}

// fact is an event to be.
type fact struct {
	typ    string
	object *object
	data   []byte
	note   []byte
}

const version = "v0.5.0"

// gate is the API server, on somebody's request.
func gate(user string) who { return who{events.Actor{Kind: "api", Version: version}, user} }

// controller is a controller that states a fact by itself.
func controller(name string) who {
	return who{actor: events.Actor{Kind: "controller", Name: name, Version: version}}
}

// commands is the gate on a controller's request.
func commands(account string) who { return gate("system:serviceaccount:kube-system:" + account) }

// say puts a decision of one or more facts into the log, and returns the sequence
// of the last.
func (g *Generator) say(by who, cause uint64, facts ...fact) uint64 {
	at := time.UnixMilli(g.now).UTC()
	audit, basis, decided := "", uint64(0), time.Time{}
	if by.actor.Kind == "api" {
		audit = g.uuid()
	} else {
		basis, decided = g.sequence, at.Add(-time.Duration(1+g.below(4))*time.Millisecond)
	}
	for i, f := range facts {
		g.sequence++
		f.object.last = g.sequence
		g.out = append(g.out, events.Event{
			Sequence: g.sequence, Type: f.typ, Object: f.object.ref, UID: f.object.uid, Actor: by.actor, User: by.user, Audit: audit,
			Cause: cause, Time: at, Basis: basis, Now: decided, More: i < len(facts)-1, Note: f.note, Data: f.data,
		})
	}
	return g.sequence
}

// remove says that an object is gone.
func (g *Generator) remove(by who, cause uint64, typ string, o *object) uint64 {
	o.gone = true
	return g.say(by, cause, fact{typ: typ, object: o, data: events.Removal()})
}
