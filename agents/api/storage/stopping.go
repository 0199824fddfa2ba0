package storage

import (
	"sync"
	"time"
)

// Stopping is the end of upstream's caches, side by side. What ends one may wait for ever:
// who reads for a cache hands each event to who tells its watchers, over a queue that has an
// end, and both are stopped by one channel. If who takes is the first to hear of it and the
// queue is full, who gives hears of nothing. See decision 0386.
type Stopping struct {
	mu    sync.Mutex
	over  bool // who waits has begun to: what is to end from now on is not waited for
	under sync.WaitGroup
}

// Begin has a cache end, by stop, and does not wait for it.
func (s *Stopping) Begin(stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		go stop()
		return
	}
	s.under.Go(stop)
}

// Await says whether all that were to end have ended within a time. It is called once, when
// none is to end any more.
func (s *Stopping) Await(most time.Duration) bool {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.under.Wait()
	}()
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-stopped:
		return true
	case <-t.C:
		return false
	}
}
