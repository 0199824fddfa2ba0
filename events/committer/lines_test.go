package committer

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Of what waits, people's proposals are appended first and by themselves, and then
// those of agents are, though more people come.
func TestPeopleGoFirst(t *testing.T) {
	r := newRig(t, Options{Group: 20, Singly: -1}).start(t)
	if _, err := r.Propose(t.Context(), create("first")); err != nil {
		t.Fatal(err)
	}
	release := r.log.Hold()
	defer release()
	var wg sync.WaitGroup
	waiting := 0
	send := func(n int, kind func(events.Proposal) events.Proposal, name string) {
		for i := range n {
			wg.Go(func() {
				if _, err := r.Propose(t.Context(), kind(create(fmt.Sprint(name, i)))); err != nil {
					t.Error(err)
				}
			})
		}
		waiting += n
		until(t, func() bool { return r.term.Load().waiting() == waiting })
	}
	person := func(p events.Proposal) events.Proposal { return p }
	wg.Go(func() { _, _ = r.Propose(t.Context(), because(create("under-way"))) })
	until(t, func() bool { return r.log.Waiting() == 1 })
	send(30, because, "agent")
	send(50, person, "person")
	release()
	wg.Wait()
	var order []string
	for _, e := range r.check(t)[2:] {
		who := strings.TrimRight(e.Object.Name, "0123456789")
		if n := len(order); n == 0 || order[n-1] != who {
			order = append(order, who)
		}
	}
	if got, want := fmt.Sprint(order, r.appends()), "[person agent person agent person] [1 1 20 20 20 10 10]"; got != want {
		t.Errorf("the log has %s, want %s", got, want)
	}
}

// While people come now and then, they have not to wait for a large group of agents.
func TestFewPeopleMeetSmallGroups(t *testing.T) {
	r := newRig(t, Options{Group: 20, Singly: -1}).start(t)
	if _, err := r.Propose(t.Context(), create("person")); err != nil {
		t.Fatal(err)
	}
	release := r.log.Hold()
	defer release()
	var answers []func() (events.Receipt, error)
	for i := range 1 + 7*lately {
		answer, err := r.Offer(t.Context(), because(create(fmt.Sprint("agent", i))))
		if err != nil {
			t.Fatal(err)
		}
		if answers = append(answers, answer); i == 0 {
			until(t, func() bool { return r.log.Waiting() == 1 })
		}
	}
	release()
	for _, answer := range answers {
		if _, err := answer(); err != nil {
			t.Fatal(err)
		}
	}
	// The person's, one that was under way, small ones, and then what is left.
	var want []string
	for range 2 {
		want = append(want, "1")
	}
	for range lately - 1 {
		want = append(want, "5")
	}
	for left := 7*lately - 5*(lately-1); left > 0; left -= 20 {
		want = append(want, fmt.Sprint(min(left, 20)))
	}
	if got := r.appends(); !slices.Equal(got, want) {
		t.Errorf("appends of %v events, want %v", got, want)
	}
}

// Where nobody waits for agents their proposals wait for each other, but not for longer
// than it takes until a person proposes something, or a whole group is there.
func TestAgentsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Group: 20, Singly: -1, Gather: time.Minute}).start(t)
		var wg sync.WaitGroup
		send := func(n int, kind func(events.Proposal) events.Proposal, name string) {
			for i := range n {
				wg.Go(func() {
					if _, err := r.Propose(t.Context(), kind(create(fmt.Sprint(name, i)))); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
		}
		person := func(p events.Proposal) events.Proposal { return p }
		appended := func(want string) {
			t.Helper()
			if got := fmt.Sprint(r.appends()); got != want {
				t.Errorf("appends of %s events, want %s", got, want)
			}
		}
		send(3, because, "few")
		appended("[]")
		send(1, person, "person")
		appended("[1 3]")
		send(2, because, "late")
		appended("[1 3]")
		begun := time.Now()
		wg.Wait()
		appended("[1 3 2]")
		if waited := time.Since(begun); waited != time.Minute {
			t.Errorf("they waited for %v", waited)
		}
		release := r.log.Hold()
		send(1, person, "under-way")
		send(20, because, "group")
		release()
		wg.Wait()
		appended("[1 3 2 1 20]")
		if waited := time.Since(begun); waited != time.Minute {
			t.Errorf("a whole group waited, which took %v in all", waited)
		}
	})
}
