package replay

import (
	"cmp"
	"container/heap"
	"fmt"
	"strings"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Trial runs a scheduler over the pods and nodes that a history had, as they came
// and went, and keeps its bindings in place of those recorded. Feed it the same
// events as the Survey before. Assumptions says what it takes for granted.
type Trial struct {
	scheduler runner.Decider
	survey    *Survey
	tell      func(Placement)
	latency   time.Duration

	recorded *projections.State // what happened
	world    *projections.State // what would have
	now      time.Time
	decideAt time.Time // zero if nothing has changed that concerns the scheduler
	leaving  departures
	then, is *ledger
	open     map[string]*fate // by uid, of pods that are not bound in both
	outcome  Outcome
	waited   [2][]time.Duration
}

// fate is what became of a pod, then and now.
type fate struct {
	ref      events.Ref
	created  time.Time
	sequence uint64
	node     [2]string
	at       [2]time.Time
	note     [2][]byte
	why      string // why it is not bound now
	gone     bool   // and never will be
}

const (
	then = iota
	now
)

// NewTrial returns a trial of a scheduler, given a survey of the whole history
// and the state that the history begins with, nil for an empty one. tell, which
// may be nil, hears of each pod that would run elsewhere.
func NewTrial(s runner.Decider, survey *Survey, state *projections.State, tell func(Placement)) *Trial {
	t := &Trial{
		scheduler: s, survey: survey, tell: tell, latency: survey.latency(),
		recorded: state, world: projections.NewState(), then: newLedger(), is: newLedger(), open: map[string]*fate{},
	}
	if tell == nil {
		t.tell = func(Placement) {}
	}
	if state == nil {
		t.recorded = projections.NewState()
		return t
	}
	t.world.StartAt(state.Sequence())
	return t
}

// begin takes over the state that the history begins with, at its first event.
func (t *Trial) begin(at time.Time) {
	t.now = at
	v := t.recorded.View()
	for r := range v.Resources() {
		for e := range v.List(r.Group, r.Resource, "") {
			t.follow(projections.Change{Event: &events.Event{Sequence: e.Sequence, Object: e.Ref, UID: e.UID, Time: at}, After: e})
		}
	}
}

// Feed takes events that follow those before. They belong to the trial from here
// on.
func (t *Trial) Feed(batch []events.Event) error {
	for i := range batch {
		e := &batch[i]
		if t.now.IsZero() {
			t.begin(e.Time)
		}
		if err := t.advance(e.Time); err != nil {
			return err
		}
		changes, err := t.recorded.Fold(batch[i : i+1 : i+1])
		if err != nil {
			return fmt.Errorf("cannot try: %w", err)
		}
		t.world.StartAt(e.Sequence)
		for _, c := range changes {
			t.follow(c)
		}
	}
	return nil
}

// advance lets happen what is due up to a time: pods leave, and the scheduler
// decides.
func (t *Trial) advance(to time.Time) error {
	for {
		leaves := len(t.leaving) > 0 && !t.leaving[0].at.After(to)
		decides := !t.decideAt.IsZero() && !t.decideAt.After(to)
		switch {
		case leaves && (!decides || !t.leaving[0].at.After(t.decideAt)):
			d := heap.Pop(&t.leaving).(departure)
			t.now = d.at
			t.leave(d.ref, d.uid)
		case decides:
			t.now, t.decideAt = t.decideAt, time.Time{}
			if err := t.decide(); err != nil {
				return err
			}
		default:
			t.now = to
			return nil
		}
	}
}

// follow does to the world what happened, except for what the scheduler decided
// and what followed from that.
func (t *Trial) follow(c projections.Change) {
	ref := c.Event.Object
	if ref.GroupResource() == "pods" {
		t.followPod(c)
		return
	}
	if c.After != nil {
		t.world.Put(c.After)
	} else {
		t.world.Remove(ref)
	}
	if ref.GroupResource() == "nodes" {
		t.followNode(c)
	}
	t.concern(c)
}

func (t *Trial) followNode(c projections.Change) {
	name := c.Event.Object.Name
	if c.After != nil {
		for _, l := range []*ledger{t.then, t.is} {
			l.setNode(projections.As[core.Node](c.After), t.now)
		}
		return
	}
	for e := range t.world.View().OnNode(name) {
		t.outcome.Stranded++
		t.leave(e.Ref, e.UID)
	}
	for _, l := range []*ledger{t.then, t.is} {
		l.removeNode(name, t.now)
	}
}

// concern wakes the scheduler if a change is one that it acts upon.
func (t *Trial) concern(c projections.Change) {
	if t.decideAt.IsZero() && len(t.scheduler.Concerns(t.view(), c)) > 0 {
		t.decideAt = t.now.Add(t.latency)
	}
}

func (t *Trial) view() runner.View {
	return runner.View{Reader: t.world.View(), Volatile: projections.NewVolatileState().View()}
}

func (t *Trial) followPod(c projections.Change) {
	uid, here := c.Event.UID, t.world.View().Get(c.Event.Object)
	if here != nil && here.UID != uid {
		here = nil // of before: its name has been taken again
	}
	ended := c.After == nil || over(c.After)
	if ended {
		t.then.leave(uid, t.now)
	}
	switch {
	case c.Before == nil:
		t.arrive(c)
	case isBinding(c.Event):
		t.bind(uid, then, c.After, c.Event.Note, c.Event.Time)
		t.then.place(uid, loadOf(c.After), t.now)
	case boundByOthers(c):
		t.fix(c.After)
	case here == nil:
	case ended || events.Lookup(c.After.Raw, "metadata", "deletionTimestamp") != nil:
		t.followEnd(c, here)
	case c.Event.Actor.Kind == "api":
		t.amend(c, here)
	}
}

// arrive brings a pod into the world as it was made.
func (t *Trial) arrive(c projections.Change) {
	if over(c.After) {
		return
	}
	if old := t.world.View().Get(c.After.Ref); old != nil {
		t.leave(old.Ref, old.UID) // A new pod of the name: the old one cannot go on.
	}
	if nodeOf(c.After) != "" {
		t.fix(c.After)
		return
	}
	t.open[c.After.UID] = &fate{ref: c.After.Ref, created: t.now, sequence: c.After.Created}
	t.world.Put(c.After)
	t.concern(projections.Change{Event: c.Event, After: c.After})
}

// boundByOthers says whether somebody else than the scheduler gave a pod its node.
func boundByOthers(c projections.Change) bool {
	return c.Before != nil && c.After != nil && !isBinding(c.Event) &&
		nodeOf(c.Before) == "" && nodeOf(c.After) != ""
}

// fix puts a pod where it was put by others than the scheduler.
func (t *Trial) fix(e *projections.Entry) {
	delete(t.open, e.UID)
	t.is.leave(e.UID, t.now)
	t.outcome.Fixed++
	t.world.Put(e)
	t.then.place(e.UID, loadOf(e), t.now)
	t.is.place(e.UID, loadOf(e), t.now)
}

// followEnd ends a pod that still waits, or of which it is not known how long it
// ran on a node. All others go when they have run as long as they did.
func (t *Trial) followEnd(c projections.Change, here *projections.Entry) {
	l := t.survey.lives[here.UID]
	ran := l != nil && !l.bound.IsZero()
	switch waits := nodeOf(here) == ""; {
	case waits && ran && l.byItself:
		// It ended its work, which here it still has before it.
	case waits:
		if f := t.open[here.UID]; f != nil {
			f.gone = true
		}
		t.leave(here.Ref, here.UID)
	case !ran && (c.After == nil || over(c.After)):
		t.leave(here.Ref, here.UID)
	}
}

// amend applies what a person changed of a pod that the scheduler may look at.
func (t *Trial) amend(c projections.Change, here *projections.Entry) {
	ops, err := events.ParsePatch(c.Event.Data)
	if err != nil {
		return
	}
	var told []events.Op
	for _, op := range ops {
		if strings.HasPrefix(op.Path, "/metadata/labels") || strings.HasPrefix(op.Path, "/spec") && op.Path != "/spec/nodeName" {
			told = append(told, op)
		}
	}
	if len(told) == 0 {
		return
	}
	raw, err := events.ApplyOps(here.Raw, told)
	if err != nil {
		t.outcome.Ignored++
		return
	}
	after := projections.NewEntry(here.Ref, here.UID, here.Created, c.Event.Sequence, raw)
	t.world.Put(after)
	t.concern(projections.Change{Event: c.Event, Before: here, After: after})
}

// leave takes a pod out of the world.
func (t *Trial) leave(ref events.Ref, uid string) {
	e := t.world.View().Get(ref)
	if e == nil || e.UID != uid {
		return
	}
	t.world.Remove(ref)
	t.is.leave(uid, t.now)
	t.concern(projections.Change{Event: &events.Event{Object: ref, UID: uid, Type: "pod.removed"}, Before: e})
}

// decide lets the scheduler decide, and does to the world what it says.
func (t *Trial) decide() error {
	r, err := decide(t.scheduler, t.view(), runner.Item{Ref: events.Ref{Resource: "pods"}}, t.now)
	if err != nil {
		return err
	}
	for _, d := range r.Decisions {
		for i := range d.Changes {
			if err := t.do(&d.Changes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Trial) do(c *events.Change) error {
	before := t.world.View().Get(c.Object)
	raw, err := events.Apply(before.Raw, c.Data)
	if err != nil {
		return fmt.Errorf("cannot try: %s of %s: %w", c.Type, c.Object, err)
	}
	after := projections.NewEntry(before.Ref, before.UID, before.Created, before.Sequence, raw)
	t.world.Put(after)
	if c.Type != scheduler.Bound {
		if f := t.open[before.UID]; f != nil {
			f.why = message(after)
		}
		return nil
	}
	t.is.place(after.UID, loadOf(after), t.now)
	t.bind(after.UID, now, after, c.Note, t.now)
	if l := t.survey.lives[after.UID]; l != nil && !l.bound.IsZero() && !l.ended.IsZero() {
		heap.Push(&t.leaving, departure{t.now.Add(max(l.ended.Sub(l.bound), 0)), after.Created, after.Ref, after.UID})
	}
	return nil
}

// bind notes a binding, and compares once the pod is bound in both.
func (t *Trial) bind(uid string, when int, e *projections.Entry, note []byte, at time.Time) {
	f := t.open[uid]
	if f == nil {
		return
	}
	f.node[when], f.at[when], f.note[when] = nodeOf(e), at, note
	t.waited[when] = append(t.waited[when], max(at.Sub(f.created), 0))
	if f.node[then] == "" || f.node[now] == "" {
		return
	}
	delete(t.open, uid)
	if f.node[then] == f.node[now] {
		t.outcome.Same++
		return
	}
	t.outcome.Different++
	t.tell(f.placement())
}

// message is why a pod has no node.
func message(e *projections.Entry) string {
	for _, c := range projections.As[core.Pod](e).Status.Conditions {
		if c.Type == core.PodScheduled {
			return c.Message
		}
	}
	return ""
}

func loadOf(e *projections.Entry) load {
	pod := projections.As[core.Pod](e)
	cpu, memory := scheduler.Requests(pod)
	return load{node: pod.Spec.NodeName, cpu: cpu, memory: memory}
}

// departure is when a pod leaves.
type departure struct {
	at      time.Time
	created uint64
	ref     events.Ref
	uid     string
}

type departures []departure

func (d departures) Len() int { return len(d) }
func (d departures) Less(i, j int) bool {
	return cmp.Or(d[i].at.Compare(d[j].at), cmp.Compare(d[i].created, d[j].created)) < 0
}
func (d departures) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *departures) Push(x any)   { *d = append(*d, x.(departure)) }
func (d *departures) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}
