package committer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memlog"
)

// board is where leases are written in a test.
type board struct {
	mu      sync.Mutex
	holder  string
	expires time.Time
}

// memLease is one replica's hand on the board.
type memLease struct {
	*board
	name string
	cut  bool // it reaches the board no more
}

func (l *memLease) TTL() time.Duration { return 12 * time.Second }

func (l *memLease) try(renew bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	mine := l.holder == l.name && now.Before(l.expires)
	switch {
	case l.cut:
		return errors.New("no route to the log")
	case renew && !mine, !renew && l.holder != "" && now.Before(l.expires):
		return events.ErrLeaseLost
	}
	l.holder, l.expires = l.name, now.Add(l.TTL())
	return nil
}

func (l *memLease) Acquire(ctx context.Context) error {
	for {
		if err := l.try(false); !errors.Is(err, events.ErrLeaseLost) {
			return err
		}
		pause(ctx, time.Second)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (l *memLease) Renew(context.Context) error { return l.try(true) }

func (l *memLease) Release(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == l.name && !l.cut {
		l.holder = ""
	}
	return nil
}

func (l *memLease) Holder(context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder, nil
}

// stage notes who leads, and when.
type stage struct {
	mu    sync.Mutex
	begun time.Time
	lines []string
}

func (s *stage) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, time.Since(s.begun).String()+" "+line)
}

func (s *stage) candidate(ctx context.Context, l *memLease, run func(context.Context) error) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		_ = Elect(ctx, l, run, func(leading bool, why error) {
			switch {
			case leading:
				s.note(l.name + " leads")
			case why != nil:
				s.note(l.name + ": " + why.Error())
			}
		})
	}()
	return done
}

func untilDone(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := &stage{begun: time.Now()}, &board{}
		one, two := &memLease{board: b, name: "one"}, &memLease{board: b, name: "two"}
		ctx1, stop1 := context.WithCancel(t.Context())
		ctx2, stop2 := context.WithCancel(t.Context())
		done1 := s.candidate(ctx1, one, untilDone)
		synctest.Wait()
		done2 := s.candidate(ctx2, two, untilDone)
		pause(t.Context(), 61500*time.Millisecond)
		// One is cut off: it stops by itself, and two takes over once the lease
		// has expired.
		b.mu.Lock()
		one.cut = true
		b.mu.Unlock()
		pause(t.Context(), 30*time.Second)
		b.mu.Lock()
		one.cut = false
		b.mu.Unlock()
		// Two leaves in good order: one need not wait for the lease to expire.
		stop2()
		<-done2
		pause(t.Context(), 20*time.Second)
		stop1()
		<-done1
		const want = `0s one leads
1m9s one: the lease is no longer held
1m9s one: no route to the log
1m12s two leads
1m13s one: no route to the log
1m17s one: no route to the log
1m21s one: no route to the log
1m25s one: no route to the log
1m29s one: no route to the log
1m31.5s two: context canceled
1m33s one leads
1m51.5s one: context canceled`
		if got := strings.Join(s.lines, "\n"); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

// TestFailoverLosesNothing has two replicas on one log, whose leases are cut in
// turn, and a writer that goes to whichever answers.
func TestFailoverLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s, b, log := &stage{begun: time.Now()}, &board{}, memlog.New()
		var replicas []*Committer
		var leases []*memLease
		var ended []chan struct{}
		for _, name := range []string{"one", "two"} {
			index := newMemIndex()
			index.follow(t, log)
			c, l := New(log, index, Options{}), &memLease{board: b, name: name}
			replicas, leases = append(replicas, c), append(leases, l)
			ended = append(ended, s.candidate(ctx, l, c.Run))
		}
		written, changes := 0, 0
		for minute := range 10 {
			b.mu.Lock()
			leases[minute%2].cut = minute%3 != 0
			leases[1-minute%2].cut = false
			b.mu.Unlock()
			for range 60 {
				pause(ctx, time.Second)
				for _, c := range replicas {
					_, err := c.Propose(ctx, create(fmt.Sprint(written)))
					if err == nil {
						written++
						break
					}
					if !errors.Is(err, events.ErrUnavailable) {
						t.Error(err)
					}
				}
			}
		}
		stop()
		for _, done := range ended {
			<-done
		}
		for _, line := range s.lines {
			if strings.HasSuffix(line, "leads") {
				changes++
			}
		}
		if changes < 4 || written < 400 {
			t.Errorf("%d changes of the leader, %d of 600 writes:\n%s", changes, written, strings.Join(s.lines, "\n"))
		}
		r := &rig{trace: &trace{Log: log}}
		if all := r.check(t); len(all) != written {
			t.Errorf("%d writes were acknowledged, and %d are in the log", written, len(all))
		}
	})
}
