package committer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/logtest"
	"github.com/reprise-run/reprise/events/memlog"
)

// rig is a committer at work.
type rig struct {
	log   *logtest.Faulty
	trace *trace
	index *memIndex
	*Committer
	ended chan error
	stop  context.CancelFunc
}

// trace records the order of appends and answers.
type trace struct {
	events.Log
	mu    sync.Mutex
	lines []string
}

func (l *trace) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *trace) Append(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	l.add("append %d after %d", len(batch), after)
	last, err := l.Log.Append(ctx, after, batch)
	if err != nil {
		l.add("not stored: %v", err)
	} else {
		l.add("durable to %d", last)
	}
	return last, err
}

func newRig(t *testing.T, opts Options) *rig {
	tr := &trace{Log: memlog.New()}
	r := &rig{log: logtest.NewFaulty(tr), trace: tr, index: newMemIndex()}
	r.Committer = New(r.log, r.index, opts)
	return r
}

// start runs the committer and the index until the test ends.
func (r *rig) start(t *testing.T) *rig {
	r.index.follow(t, r.trace)
	r.run(t)
	return r
}

func (r *rig) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.ended = cancel, make(chan error, 1)
	finished := make(chan struct{})
	go func() { defer close(finished); r.ended <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-finished })
	until(t, func() bool { return r.term.Load() != nil })
}

// serves returns once the committer has caught up and judges what it is told.
func (r *rig) serves(t *testing.T) {
	t.Helper()
	var refused *events.RefusedError
	if _, err := r.Propose(t.Context(), events.Proposal{}); !errors.As(err, &refused) {
		t.Fatalf("a proposal that changes nothing is answered with %v", err)
	}
}

// until waits for a condition that other goroutines bring about.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

func ref(name string) events.Ref {
	return events.Ref{Resource: "configmaps", Namespace: "default", Name: name}
}

func create(name string) events.Proposal {
	return propose(events.Change{Type: "configmap.created", Object: ref(name), UID: "u-" + name, Data: []byte(`{"data":{"n":"0"},"kind":"ConfigMap"}`)})
}

func set(name string, n int, expect uint64) events.Proposal {
	p := propose(events.Change{Type: "configmap.data-changed", Object: ref(name), Data: fmt.Appendf(nil, `[{"op":"replace","path":"/data/n","value":"%d"}]`, n)})
	if expect > 0 {
		p.Expect = []events.Expectation{{Object: ref(name), Sequence: expect}}
	}
	return p
}

func propose(changes ...events.Change) events.Proposal {
	return events.Proposal{Actor: events.Actor{Kind: "api", Version: "test"}, Decision: events.Decision{Changes: changes}}
}

// check asserts what must hold of every log: the chain, the times, the folds.
func (r *rig) check(t *testing.T) []events.Event {
	t.Helper()
	last, err := r.trace.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last == 0 {
		return nil
	}
	reader, err := r.trace.Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var all []events.Event
	for uint64(len(all)) < last {
		got, err := reader.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	if _, err := events.VerifyChain(0, [32]byte{}, all); err != nil {
		t.Error(err)
	}
	for i := 1; i < len(all); i++ {
		if all[i].Time.Before(all[i-1].Time) {
			t.Errorf("time runs backwards at sequence %d", all[i].Sequence)
		}
	}
	folded := newMemIndex()
	for i := range all {
		folded.fold(t, &all[i])
	}
	return all
}

func TestAnswersComeAfterAppends(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	for _, p := range []events.Proposal{create("a"), create("a"), set("a", 1, 1), propose(create("b").Changes[0], set("b", 1, 0).Changes[0])} {
		receipt, err := r.Propose(t.Context(), p)
		if err != nil {
			r.trace.add("answer: %v", err)
		} else {
			r.trace.add("answer: %d to %d", receipt.First, receipt.Last)
		}
	}
	want := `append 1 after 0
durable to 1
answer: 1 to 1
answer: configmaps/default/a exists already (sequence 1)
append 1 after 1
durable to 2
answer: 2 to 2
append 2 after 2
durable to 4
answer: 3 to 4`
	if got := strings.Join(r.trace.lines, "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	r.check(t)
}

func TestManyWritersAgree(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	const writers, rounds, objects = 16, 25, 3
	for i := range objects {
		if _, err := r.Propose(t.Context(), create(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.index.Wait(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range writers {
		name := fmt.Sprint(w % objects)
		wg.Go(func() {
			for done := 0; done < rounds; {
				raw, _, _, sequence, _ := r.index.Lookup(ref(name))
				var n int
				if _, err := fmt.Sscanf(string(raw), `{"data":{"n":"%d"`, &n); err != nil {
					t.Error(err)
					return
				}
				receipt, err := r.Propose(t.Context(), set(name, n+1, sequence))
				var conflict *events.ConflictError
				switch {
				case errors.As(err, &conflict):
					err = r.index.Wait(t.Context(), conflict.Actual)
				case err == nil:
					done++
					err = r.index.Wait(t.Context(), receipt.Last)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := len(r.check(t)); n != objects+writers*rounds {
		t.Errorf("the log has %d events, want %d: updates were lost", n, objects+writers*rounds)
	}
}

func TestJudgesByWhatIsAppendedAndNotFolded(t *testing.T) {
	r := newRig(t, Options{})
	r.run(t) // the index does not follow
	ctx := t.Context()
	if _, err := r.Propose(ctx, create("a")); err != nil {
		t.Fatal(err)
	}
	var conflict *events.ConflictError
	if _, err := r.Propose(ctx, create("a")); !errors.As(err, &conflict) || conflict.Actual != 1 {
		t.Errorf("creating it twice: %v", err)
	}
	if _, err := r.Propose(ctx, set("a", 1, 1)); err != nil {
		t.Error(err)
	}
	if _, err := r.Propose(ctx, propose(events.Change{Type: "configmap.deleted", Object: ref("a"), Data: events.Removal()})); err != nil {
		t.Error(err)
	}
	if _, err := r.Propose(ctx, set("a", 2, 0)); !errors.As(err, &conflict) || conflict.Actual != 0 {
		t.Errorf("changing what is deleted: %v", err)
	}
	r.check(t)
}

func TestGroupsWhatWaits(t *testing.T) {
	r := newRig(t, Options{Group: 100}).start(t)
	release := r.log.Hold()
	defer release()
	var wg sync.WaitGroup
	send := func(from, to int) {
		for i := from; i < to; i++ {
			wg.Go(func() {
				if _, err := r.Propose(t.Context(), create(fmt.Sprint("c", i))); err != nil {
					t.Error(err)
				}
			})
		}
	}
	send(0, 1)
	until(t, func() bool { return r.log.Waiting() == 1 })
	send(1, 251)
	until(t, func() bool { return r.term.Load().waiting() == 250 })
	release()
	wg.Wait()
	if sizes := r.appends(); !slices.Equal(sizes, []string{"1", "100", "100", "50"}) {
		t.Errorf("appends of %v", sizes)
	}
	r.check(t)
}

// What waits is appended a few MB at a time, however few events it is.
func TestGroupsAreBoundedInBytes(t *testing.T) {
	r := newRig(t, Options{Group: 100, Singly: -1}).start(t)
	release := r.log.Hold()
	defer release()
	var wg sync.WaitGroup
	send := func(name string, size int) {
		p := create(name)
		p.Changes[0].Data = []byte(`{"data":"` + strings.Repeat("x", size) + `","kind":"ConfigMap"}`)
		wg.Go(func() {
			if _, err := r.Propose(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
	send("first", 1)
	until(t, func() bool { return r.log.Waiting() == 1 })
	const size = maxObject - 1000
	for i := range 2*(mostBytes/size) + 1 {
		send(fmt.Sprint("c", i), size)
	}
	until(t, func() bool { return r.term.Load().waiting() == 2*(mostBytes/size)+1 })
	release()
	wg.Wait()
	some := fmt.Sprint(mostBytes / size)
	if sizes := r.appends(); !slices.Equal(sizes, []string{"1", some, some, "1"}) {
		t.Errorf("appends of %v", sizes)
	}
	r.check(t)
}

// appends are the sizes of the appends so far.
func (r *rig) appends() (sizes []string) {
	r.trace.mu.Lock()
	defer r.trace.mu.Unlock()
	for _, line := range r.trace.lines {
		if size, ok := strings.CutPrefix(line, "append "); ok {
			sizes = append(sizes, strings.Fields(size)[0])
		}
	}
	return sizes
}

func (t *term) waiting() int { return len(t.lines.people.queue) + len(t.lines.agents.queue) }

// because is a proposal of an agent.
func because(p events.Proposal) events.Proposal {
	p.Because = 1
	return p
}

// One goroutine offers many proposals, and asks for their answers later.
func TestOffer(t *testing.T) {
	r := newRig(t, Options{})
	if _, err := r.Offer(t.Context(), create("early")); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("before it runs: %v", err)
	}
	r.start(t)
	release := r.log.Hold()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var answers []func() (events.Receipt, error)
	offer := func(ctx context.Context, p events.Proposal) {
		t.Helper()
		answer, err := r.Offer(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, answer)
	}
	offer(t.Context(), create("a"))
	until(t, func() bool { return r.log.Waiting() == 1 })
	offer(t.Context(), create("b"))
	offer(ctx, create("given-up"))
	offer(t.Context(), create("c"))
	offer(t.Context(), create("b"))
	cancel()
	if _, err := answers[2](); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("what was given up in line: %v", err)
	}
	release()
	for i, want := range map[int]uint64{0: 1, 1: 2, 3: 3} {
		if got, err := answers[i](); err != nil || got.Last != want {
			t.Errorf("%d became %v (%v), want %d", i, got, err, want)
		}
	}
	var conflict *events.ConflictError
	if _, err := answers[4](); !errors.As(err, &conflict) {
		t.Errorf("what was there already: %v", err)
	}
	r.check(t)
}

// An answer that was given is told, also to who asks for it when his time is over.
func TestAnswersOutliveTheirContext(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var answers []func() (events.Receipt, error)
	for i := range 30 {
		answer, err := r.Offer(ctx, create(fmt.Sprint("early", i)))
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, answer)
	}
	if _, err := r.Propose(t.Context(), create("last")); err != nil {
		t.Fatal(err)
	}
	cancel()
	for i, answer := range answers {
		if got, err := answer(); err != nil || got.Last != uint64(i+1) {
			t.Errorf("%d became %v (%v)", i, got, err)
		}
	}
}

func TestRefusesWhatNoBatchHolds(t *testing.T) {
	r := newRig(t, Options{Group: 10}).start(t)
	var changes []events.Change
	for i := range events.MaxBatch + 1 {
		changes = append(changes, create(fmt.Sprint(i)).Changes[0])
	}
	var refused *events.RefusedError
	if _, err := r.Propose(t.Context(), propose(changes...)); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
	// A large decision is not split, even if it is larger than a group.
	if got, err := r.Propose(t.Context(), propose(changes[1:]...)); err != nil || got.Last != events.MaxBatch {
		t.Errorf("got %v, %v", got, err)
	}
	if all := r.check(t); len(r.trace.lines) != 2 || all[0].More != true || all[len(all)-1].More {
		t.Errorf("appended as %v", r.trace.lines)
	}
}

func TestTimeNeverRunsBackwards(t *testing.T) {
	clock := []time.Time{time.UnixMilli(5000), time.UnixMilli(3000).Add(time.Microsecond), time.UnixMilli(7000)}
	r := newRig(t, Options{Now: func() time.Time { now := clock[0]; clock = clock[1:]; return now }}).start(t)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := r.Propose(t.Context(), create(name)); err != nil {
			t.Fatal(err)
		}
	}
	var got []int64
	for _, e := range r.check(t) {
		got = append(got, e.Time.UnixMilli())
	}
	if !slices.Equal(got, []int64{5000, 5000, 7000}) {
		t.Errorf("times %v", got)
	}
}

func TestRefusesWhatIsTooLarge(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	long := func(n int) string { return strings.Repeat("x", n) }
	grown := create("a")
	grown.Changes[0].Data = []byte(`{"data":"` + long(maxObject) + `","kind":"ConfigMap"}`)
	verbose, named := create("b"), create("c")
	verbose.Changes[0].Note = []byte(`"` + long(maxNote) + `"`)
	named.Actor.Version = long(maxEnvelope)
	for what, p := range map[string]events.Proposal{"object": grown, "note": verbose, "envelope": named} {
		_, err := r.Propose(t.Context(), p)
		var refused *events.RefusedError
		if !errors.As(err, &refused) || !refused.Unwieldy || !strings.Contains(err.Error(), "may have") {
			t.Errorf("too large a %s: %.200v", what, err)
		}
	}
}

// The log's files have zeros in what is their own. What others have written into them is JSON,
// or has none.
func TestRefusesControlCharacters(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	for what, set := range map[string]func(p *events.Proposal, s string){
		"a version": func(p *events.Proposal, s string) { p.Actor.Version = s },
		"a user":    func(p *events.Proposal, s string) { p.User = s },
		"an audit":  func(p *events.Proposal, s string) { p.Audit = s },
		"a uid":     func(p *events.Proposal, s string) { p.Changes[0].UID = s },
		"a name":    func(p *events.Proposal, s string) { p.Changes[0].Object.Name = s },
		"an object's uid": func(p *events.Proposal, _ string) {
			p.Changes[0].UID, p.Changes[0].Data = "", []byte(`{"kind":"ConfigMap","metadata":{"uid":"\u0000\u0002"}}`)
		},
		"a long uid": func(p *events.Proposal, _ string) {
			p.Changes[0].UID, p.Changes[0].Data = "", []byte(`{"kind":"ConfigMap","metadata":{"uid":"`+strings.Repeat("x", 70_000)+`"}}`)
		},
	} {
		p := create("a")
		set(&p, "v1\x00\x00\x02")
		var refused *events.RefusedError
		if _, err := r.Propose(t.Context(), p); !errors.As(err, &refused) || !strings.Contains(err.Error(), "may not hold the character") && !strings.Contains(err.Error(), "control anything") {
			t.Errorf("%s with zeros: %.200v", what, err)
		}
	}
}

func TestAsksForTheShapeOfWhatNodesWrite(t *testing.T) {
	r := newRig(t, Options{Shape: func(events.Change, []events.Op) error { return errors.New("it is no proper Node") }}).start(t)
	p := propose(events.Change{Type: "node.registered", Object: events.Ref{Resource: "nodes", Name: "n1"}, Data: []byte(`{"kind":"Node","metadata":{"name":"n1"}}`)})
	p.Actor = events.Actor{Kind: "node", Name: "n1"}
	_, err := r.Propose(t.Context(), p)
	var refused *events.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "no proper Node") {
		t.Errorf("got %v", err)
	}
	if _, err := r.Propose(t.Context(), create("a")); err != nil {
		t.Errorf("what the gate writes: %v", err)
	}
}
