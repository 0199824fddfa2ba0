package crew

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestACrewIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := New(ctx)
		idle := func(want int32, when string) {
			t.Helper()
			synctest.Wait()
			if got := c.idle.Load(); got != want {
				t.Errorf("%s, %d goroutines are idle, want %d", when, got, want)
			}
		}
		busy, did := make(chan struct{}), make(chan struct{}, spare+10)
		for range spare + 9 {
			c.Go(func() { <-busy; did <- struct{}{} })
		}
		idle(0, "while all are busy")
		close(busy)
		idle(spare, "when all is done")
		if len(did) != spare+9 {
			t.Errorf("%d of %d were done", len(did), spare+9)
		}
		again := make(chan struct{})
		c.Go(func() { <-again })
		c.Go(func() { <-again })
		idle(spare-2, "when two are busy again")
		close(again)
		idle(spare, "when they are done")
		cancel()
		idle(0, "at the end")
		c.Go(func() { did <- struct{}{} })
		idle(0, "behind the end")
		if len(did) != spare+10 {
			t.Error("what is asked for behind the end is not done")
		}
	})
}
