package committer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/logtest"
)

func TestLearnsTheTruthWhenAnAnswerIsLost(t *testing.T) {
	for name, fault := range map[string]logtest.Fault{"stored": logtest.LostAck, "not stored": logtest.LostBatch, "stored later": logtest.Late, "under way": logtest.Held} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{}).start(t)
			if _, err := r.Propose(t.Context(), create("a")); err != nil {
				t.Fatal(err)
			}
			r.log.Plan(fault, fault)
			for i, p := range []events.Proposal{set("a", 1, 1), set("a", 2, 2), set("a", 3, 3)} {
				got, err := r.Propose(t.Context(), p)
				if want := uint64(i + 2); err != nil || got.First != want {
					t.Errorf("got %v, %v, want %d", got, err, want)
				}
			}
			if n := len(r.check(t)); n != 4 {
				t.Errorf("the log has %d events, want each once: 4", n)
			}
		})
	}
}

func TestGoesOnWhenTheTruthCannotBeLearned(t *testing.T) {
	for name, fault := range map[string]logtest.Fault{"not stored": logtest.LostBatch, "stored later": logtest.Late} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { goesOnInDoubt(t, fault) })
		})
	}
}

func goesOnInDoubt(t *testing.T, fault logtest.Fault) {
	r := newRig(t, Options{}).start(t)
	many := make([]logtest.Fault, 1000)
	for i := range many {
		many[i] = fault
	}
	r.log.Plan(many...)
	if fault == logtest.Late {
		r.serves(t)
		r.log.Cut() // and the log's end cannot be read either
	}
	if _, err := r.Propose(t.Context(), create("a")); !errors.Is(err, events.ErrUncertain) {
		t.Errorf("got %v", err)
	}
	r.log.Mend()
	_, err := r.Propose(t.Context(), create("a"))
	var conflict *events.ConflictError
	if stored := len(r.check(t)) == 1 && errors.As(err, &conflict); err != nil && !stored {
		t.Errorf("got %v", err)
	}
	if n := len(r.check(t)); n != 1 {
		t.Errorf("the log has %d events, want 1", n)
	}
}

func TestGoesOnAfterTheLogRefused(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	r.log.Plan(logtest.Refused)
	if _, err := r.Propose(t.Context(), create("a")); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if got, err := r.Propose(t.Context(), create("a")); err != nil || got.First != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	r.check(t)
}

func TestStopsWhenARivalHasAppended(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	if _, err := r.Propose(t.Context(), create("a")); err != nil {
		t.Fatal(err)
	}
	rival := New(r.trace, r.index, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- rival.Run(ctx) }()
	until(t, func() bool { return rival.term.Load() != nil })
	if _, err := rival.Propose(t.Context(), set("a", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Propose(t.Context(), create("b")); !errors.Is(err, events.ErrUnavailable) || !errors.Is(err, events.ErrStale) {
		t.Errorf("the deposed one answers %v", err)
	}
	if err := <-r.ended; !errors.Is(err, events.ErrStale) {
		t.Errorf("the deposed one ends with %v", err)
	}
	if _, err := r.Propose(t.Context(), create("b")); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("after its end it answers %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the rival ends with %v", err)
	}
	// Started again it catches up, and the chain goes on.
	r.run(t)
	if got, err := r.Propose(t.Context(), create("b")); err != nil || got.First != 3 {
		t.Errorf("got %v, %v", got, err)
	}
	r.check(t)
}

// What a committer before this one appended may arrive after this one has begun.
// All who write may have seen it then, so that nothing is left to append.
func TestStopsWhenTheIndexIsAheadOfIt(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	if _, err := r.Propose(t.Context(), create("a")); err != nil {
		t.Fatal(err)
	}
	if err := r.index.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	late := set("a", 1, 1)
	v := newBench(r.index, 2, false)
	if err := v.judge(&late); err != nil {
		t.Fatal(err)
	}
	first, err := r.trace.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	v.events[0].Time = first.Time
	v.events[0].Chain = events.Link(first.Chain, &v.events[0])
	if _, err := r.trace.Append(t.Context(), 1, v.events); err != nil {
		t.Fatal(err)
	}
	if err := r.index.Wait(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	next := set("a", 2, 2)
	next.Because, next.Basis = 2, 2
	if _, err := r.Propose(t.Context(), next); !errors.Is(err, events.ErrUnavailable) || !errors.Is(err, events.ErrStale) {
		t.Errorf("it answers %v", err)
	}
	if err := <-r.ended; !errors.Is(err, events.ErrStale) {
		t.Errorf("it ends with %v", err)
	}
	r.run(t)
	if got, err := r.Propose(t.Context(), next); err != nil || got.First != 3 {
		t.Errorf("started again it answers %v, %v", got, err)
	}
	r.check(t)
}

func TestACallerMayGiveUp(t *testing.T) {
	r := newRig(t, Options{Queue: 1}).start(t)
	if _, err := r.Propose(t.Context(), create("zero")); err != nil {
		t.Fatal(err)
	}
	release := r.log.Hold()
	defer release()
	term := r.term.Load()
	giveUp := func(name string, ready func() bool) error {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { _, err := r.Propose(ctx, create(name)); failed <- err }()
		if ready != nil {
			until(t, ready)
		}
		cancel()
		return <-failed
	}
	// The first is being appended: nobody can tell what becomes of it.
	inFlight := func() bool { return r.log.Waiting() == 1 }
	if err := giveUp("first", inFlight); !errors.Is(err, events.ErrUncertain) || !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	// The second is in the queue: it will not be appended.
	if err := giveUp("second", func() bool { return term.waiting() == 1 }); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("the second: %v", err)
	}
	// The third finds the queue full.
	if err := giveUp("third", nil); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("the third: %v", err)
	}
	release()
	if _, err := r.Propose(t.Context(), create("fourth")); err != nil {
		t.Error(err)
	}
	var names []string
	for _, e := range r.check(t) {
		names = append(names, e.Object.Name)
	}
	if fmt.Sprint(names) != "[zero first fourth]" {
		t.Errorf("the log has %v", names)
	}
}

func TestStoppingAnswersEverybody(t *testing.T) {
	r := newRig(t, Options{}).start(t)
	release := r.log.Hold()
	defer release()
	answers := make(chan error, 20)
	var wg sync.WaitGroup
	for i := range cap(answers) {
		wg.Go(func() {
			_, err := r.Propose(context.Background(), create(fmt.Sprint(i)))
			answers <- err
		})
	}
	until(t, func() bool { return r.log.Waiting() > 0 })
	r.stop()
	release()
	wg.Wait()
	close(answers)
	if err := <-r.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run ends with %v", err)
	}
	stored := 0
	for err := range answers {
		if err == nil {
			stored++
		} else if !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("answer %v", err)
		}
	}
	if n := len(r.check(t)); n != stored {
		t.Errorf("%d were told that their event is stored, and %d events are", stored, n)
	}
}

// together returns what proposals are told that wait for one turn.
func together(t *testing.T, s *Stepper, all ...events.Proposal) (told []error) {
	t.Helper()
	var waiting []*Pending
	for _, p := range all {
		waiting = append(waiting, s.Offer(p))
	}
	if err := s.Turn(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, w := range waiting {
		_, err, answered := w.Answer()
		if !answered {
			t.Fatal("not all are answered")
		}
		told = append(told, err)
	}
	return told
}

// TestTurnedDownByWhatIsNotStored: who is turned down because of another of the same group is
// told so only if that one is stored.
func TestTurnedDownByWhatIsNotStored(t *testing.T) {
	r := newRig(t, Options{Singly: -1})
	s, err := r.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var conflict *events.ConflictError
	r.log.Plan(logtest.Refused)
	if told := together(t, s, create("a"), create("a")); !errors.Is(told[0], events.ErrUnavailable) || !errors.Is(told[1], events.ErrUnavailable) || errors.As(told[1], &conflict) {
		t.Errorf("the log refuses, and they are told %v", told)
	}
	if told := together(t, s, create("a"), create("a")); told[0] != nil || !errors.As(told[1], &conflict) || conflict.Actual != 1 {
		t.Errorf("they are told %v", told)
	}
}

// TestRestsOnWhatIsNotStored: what the group has, and the log not yet, is nothing that a writer
// can have seen: he has seen another's.
func TestRestsOnWhatIsNotStored(t *testing.T) {
	r := newRig(t, Options{Singly: -1})
	s, err := r.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if told := together(t, s, create("a")); told[0] != nil {
		t.Fatal(told)
	}
	patch := set("a", 1, 1)
	patch.Basis = 2
	if told := together(t, s, create("b"), patch); told[0] != nil || !errors.Is(told[1], events.ErrUnavailable) {
		t.Errorf("behind another of the group it is told %v", told)
	}
}
