package storage

import "time"

// StopWithin ends one of upstream's caches by stop, and says whether that has ended within
// a time. What ends it may wait for ever: who reads for a cache hands each event to who
// tells its watchers, over a queue that has an end, and both are stopped by one channel. If
// who takes is the first to hear of it and the queue is full, who gives hears of nothing.
// See decision 0386.
func StopWithin(most time.Duration, stop func()) bool {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
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
