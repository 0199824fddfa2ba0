package replay_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/agents/replay/replaytest"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// book is a history as it is being written, without any concurrency.
type book struct {
	t     *testing.T
	state *projections.State
	log   []events.Event
	now   time.Time
}

func newBook(t *testing.T) *book {
	return &book{t: t, state: projections.NewState(), now: start}
}

func (b *book) append(e events.Event) uint64 {
	b.t.Helper()
	e.Sequence, e.Time = b.state.Sequence()+1, b.now
	if _, err := b.state.Fold([]events.Event{e}); err != nil {
		b.t.Fatal(err)
	}
	b.log = append(b.log, e)
	return e.Sequence
}

func (b *book) create(typ string, ref events.Ref, body string) uint64 {
	b.t.Helper()
	raw, err := events.Canonical([]byte(body))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.append(events.Event{Type: typ, Object: ref, UID: ref.Name, Actor: events.Actor{Kind: "api"}, User: "admin", Data: raw})
}

func pod(name string) events.Ref { return events.Ref{Resource: "pods", Namespace: "shop", Name: name} }

func (b *book) pod(name, cpu string) uint64 {
	b.t.Helper()
	return b.create("pod.created", pod(name), fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"shop","uid":%q},
		"spec":{"containers":[{"name":"c","image":"web","resources":{"requests":{"cpu":%q,"memory":"64Mi"}}}]},"status":{"phase":"Pending"}}`, name, name, cpu))
}

func (b *book) node(name, cpu string) uint64 {
	b.t.Helper()
	return b.create("node.created", events.Ref{Resource: "nodes", Name: name}, fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q,"uid":%q},
		"status":{"allocatable":{"cpu":%q,"memory":"4Gi","pods":"110"}}}`, name, name, cpu))
}

// ask has a decider decide about an item and appends what it decides, except for
// the decisions that are to be lost.
func (b *book) ask(d runner.Decider, item runner.Item, lose ...int) {
	b.t.Helper()
	basis := b.state.Sequence()
	r := d.Decide(runner.View{Reader: b.state.View(), Volatile: projections.NewVolatileState().View()}, item, b.now)
	asked, err := json.Marshal(runner.Asked{
		By: d.Actor().String(), Item: item.Ref.Text(), Because: item.Because, Answers: len(r.Decisions), Digest: r.Digest(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	now := b.now
	for i, decision := range r.Decisions {
		if len(lose) > 0 && lose[0] == i {
			continue
		}
		for j, c := range decision.Changes {
			b.append(events.Event{
				Type: c.Type, Object: c.Object, UID: c.UID, Data: c.Data, Note: c.Note, Actor: d.Actor(), Cause: decision.Because,
				Basis: basis, Now: now, Asked: asked, More: j < len(decision.Changes)-1,
			})
		}
	}
}

// binder binds all pods that wait to one node.
type binder string

func (binder) Actor() events.Actor { return events.Actor{Kind: "scheduler"} }

func (binder) Concerns(runner.View, projections.Change) []events.Ref { return nil }

func (n binder) Decide(v runner.View, item runner.Item, _ time.Time) runner.Result {
	var r runner.Result
	if n == "" {
		panic("no node")
	}
	for e := range v.OnNode("") {
		if projections.As[core.Pod](e).Spec.NodeName == "" {
			r.Decisions = append(r.Decisions, runner.Patch(e, "pod.bound", e.Sequence, runner.Set("/spec/nodeName", string(n))))
		}
	}
	return r
}

// as is a Maker of one decider.
func as(d runner.Decider) replay.Maker {
	return func(string, []byte) (runner.Decider, bool, error) { return d, true, nil }
}

var queue = runner.Item{Ref: events.Ref{Resource: "pods"}}

// differences replays the log and returns the differences as text.
func differences(t *testing.T, log []events.Event, o replay.Options) (replay.Report, string) {
	t.Helper()
	var text strings.Builder
	o.Difference = func(d replay.Difference) { text.WriteString(d.Text(true)) }
	r := replay.New(o)
	if err := r.Feed(log); err != nil {
		t.Fatal(err)
	}
	report, err := r.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return report, text.String()
}

// twoPods is a history in which two pods are bound in one decision, of which the
// given ones are lost.
func twoPods(t *testing.T, lose ...int) *book {
	b := newBook(t)
	b.node("n1", "4")
	b.pod("a", "1")
	b.pod("b", "1")
	b.ask(binder("n1"), queue, lose...)
	return b
}

func TestSameDecider(t *testing.T) {
	for _, lose := range [][]int{nil, {0}, {1}} {
		report := replaytest.Check(t, twoPods(t, lose...).log, replay.Options{Make: as(binder("n1"))})
		if a := report.Agents(); len(a) != 1 || a[0].Decisions != 1 || a[0].Equal != 1 || a[0].Events != 2-len(lose) || report.Given != 3 {
			t.Errorf("with %v lost: %s", lose, report.Text())
		}
	}
}

func TestOtherDecider(t *testing.T) {
	report, text := differences(t, twoPods(t).log, replay.Options{Make: as(binder("n2"))})
	const want = `scheduler about pods/"", with the view at 3 and the time 2026-01-01T00:00:00.000Z:
  pod.bound  pods/shop/a  seq 4  by scheduler  because 2
    - add /spec/nodeName "n1"
    + add /spec/nodeName "n2"
  pod.bound  pods/shop/b  seq 5  by scheduler  because 3
    - add /spec/nodeName "n1"
    + add /spec/nodeName "n2"
`
	if text != want || report.Differences != 1 {
		t.Errorf("%d differences:\n%s", report.Differences, text)
	}
}

// What is decided now and never was is told, and so is what was lost.
func TestMoreThanThere(t *testing.T) {
	b := newBook(t)
	b.node("n1", "4")
	b.pod("a", "1")
	b.ask(nothing{}, queue)
	b.ask(only{binder("n1")}, queue)
	if _, text := differences(t, b.log, replay.Options{Make: as(binder("n1"))}); text != "" {
		t.Errorf("differences:\n%s", text)
	}
	b = newBook(t)
	b.node("n1", "4")
	b.pod("a", "1")
	b.pod("b", "1")
	b.ask(only{binder("n1")}, queue)
	const want = `scheduler about pods/"", with the view at 3 and the time 2026-01-01T00:00:00.000Z:
  pod.bound  pods/shop/b  by scheduler  because 3
    + pod.bound
    + add /spec/nodeName "n1"
  (1 commands and decisions then, 2 now)
`
	if _, text := differences(t, b.log, replay.Options{Make: as(binder("n1"))}); text != want {
		t.Errorf("differences:\n%s", text)
	}
	_, text := differences(t, twoPods(t, 1).log, replay.Options{Make: as(binder("n2"))})
	if !strings.Contains(text, "1 of those then never reached the log") {
		t.Errorf("differences:\n%s", text)
	}
}

type nothing struct{ binder }

func (nothing) Decide(runner.View, runner.Item, time.Time) runner.Result { return runner.Result{} }

// only makes the first of another's decisions.
type only struct{ binder }

func (o only) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	r := o.binder.Decide(v, item, now)
	r.Decisions = r.Decisions[:1]
	return r
}

func TestDeciderPanics(t *testing.T) {
	_, text := differences(t, twoPods(t).log, replay.Options{Make: as(binder(""))})
	if !strings.Contains(text, "this program fails to decide: a bug in the decider: no node") {
		t.Errorf("differences:\n%s", text)
	}
}

// What cannot be compared is counted with its reason.
func TestNotComparable(t *testing.T) {
	for _, c := range []struct {
		reason string
		spoil  func(e *events.Event)
		opts   replay.Options
	}{
		{"this program has no such decider", func(e *events.Event) {}, replay.Options{Make: func(string, []byte) (runner.Decider, bool, error) { return nil, false, nil }}},
		{"this program cannot be set up as the decider was: no", func(e *events.Event) {}, replay.Options{Make: func(string, []byte) (runner.Decider, bool, error) { return nil, true, fmt.Errorf("no") }}},
		{"not all that the decider was given had room in the event", func(e *events.Event) {
			e.Asked = []byte(strings.Replace(string(e.Asked), `{`, `{"cut":"much",`, 1))
		}, replay.Options{}},
		{"what was asked cannot be read: json: cannot unmarshal array into Go value of type runner.Asked", func(e *events.Event) { e.Asked = []byte(`[]`) }, replay.Options{}},
		{"the log is from before it was recorded what was asked, and the answer is not to be found by asking around", func(e *events.Event) {
			e.Asked, e.Note = nil, []byte(`{"x":1}`)
		}, replay.Options{}},
		{"the log is from before it was recorded what a command came of", func(e *events.Event) {
			e.Asked, e.Actor, e.User = nil, events.Actor{Kind: "api"}, "system:serviceaccount:kube-system:replicaset-controller"
		}, replay.Options{}},
		{"what a node saw of its containers is not in the history", func(e *events.Event) {
			e.Asked, e.Actor = nil, events.Actor{Kind: "node", Name: "n1"}
		}, replay.Options{}},
		{"it was appended more than 1 events after the view that it was made on", func(e *events.Event) { e.Basis = 1 }, replay.Options{Ahead: 1}},
		{"the view that it says it was made on had not happened yet", func(e *events.Event) { e.Basis = 99 }, replay.Options{}},
	} {
		b := twoPods(t, 1)
		c.spoil(&b.log[3])
		if b.log[3].Actor.Kind != "scheduler" { // the owners table would not have it
			b.log[3].Type, b.log[3].Data = "pod.labeled", []byte(`[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`)
		}
		if b.log[3].Actor.Kind == "node" {
			b.log[3].Type, b.log[3].Data = "pod.ready", []byte(`[{"op":"add","path":"/status/phase","value":"Running"}]`)
		}
		if c.opts.Make == nil {
			c.opts.Make = as(binder("n1"))
		}
		report, text := differences(t, b.log, c.opts)
		if text != "" || !strings.Contains(report.Text(), "not comparable: 1 of ") || !strings.Contains(report.Text(), ": "+c.reason+"\n") {
			t.Errorf("want %q, have\n%s%s", c.reason, text, report.Text())
		}
	}
}

// A log of before questions were recorded is replayed as far as it tells.
func TestOldLog(t *testing.T) {
	b := twoPods(t)
	for i := range b.log {
		b.log[i].Asked = nil
	}
	report := replaytest.Check(t, b.log, replay.Options{Make: as(binder("n1"))})
	if a := report.Agents()[0]; a.Decisions != 2 || a.Equal != 2 {
		t.Error(report.Text())
	}
}

// Only what lies between the points is compared, on the state that the rest makes.
func TestBetween(t *testing.T) {
	b := twoPods(t)
	b.pod("c", "1")
	b.ask(binder("n1"), queue)
	for _, c := range []struct{ from, to, decisions int }{{0, 0, 2}, {6, 0, 1}, {0, 5, 1}, {7, 7, 1}, {6, 6, 0}} {
		o := replay.Options{Make: as(binder("n1")), From: uint64(c.from), To: uint64(c.to)}
		n := 0
		report := replaytest.Check(t, b.log, o)
		for _, a := range report.Agents() {
			n += a.Decisions
		}
		if n != c.decisions {
			t.Errorf("from %d to %d: %s", c.from, c.to, report.Text())
		}
	}
}

// A replay may begin with a state, as an archive of a part of the history does.
func TestFromAState(t *testing.T) {
	b := newBook(t)
	b.node("n1", "4")
	b.pod("a", "1")
	state := projections.NewState()
	if _, err := state.Fold(append([]events.Event(nil), b.log...)); err != nil {
		t.Fatal(err)
	}
	b.ask(binder("n1"), queue)
	report := replaytest.Check(t, b.log[2:], replay.Options{Make: as(binder("n1")), State: state})
	if a := report.Agents(); len(a) != 1 || a[0].Equal != 1 {
		t.Error(report.Text())
	}
	r := replay.New(replay.Options{State: state})
	if err := r.Feed(b.log[:1]); err == nil {
		t.Error("events of before the state are taken")
	}
}
