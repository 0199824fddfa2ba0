package plan

import "time"

const (
	firstDelay = 10 * time.Second
	maxDelay   = 5 * time.Minute
	// calm is how long a container must have run for its past to be forgiven.
	calm = 10 * time.Minute
	// Fresh is the Backoff of an attempt that is the first of a series.
	Fresh = -time.Second
)

// Delay is how long the attempt after an ended one is held back: the first
// restart is not, the next waits ten seconds, and each after that twice as long
// as the one before, up to five minutes.
func Delay(ended *Container) time.Duration {
	if !ended.Started.IsZero() && ended.Finished.Sub(ended.Started) >= calm {
		return 0
	}
	switch {
	case ended.Backoff < 0:
		return 0
	case ended.Backoff == 0:
		return firstDelay
	}
	return min(2*ended.Backoff, maxDelay)
}

// due is when the attempt after an ended one may start.
func due(ended *Container) time.Time { return ended.Finished.Add(Delay(ended)) }

// retry is when a failed action may be tried again. Fetching an image waits as a
// crashing container does; everything else tries again sooner, for it is often
// the lack of something that is about to come.
func retry(kind Kind, f Failure) time.Time {
	delay, limit := time.Second, 30*time.Second
	if kind == PullImage {
		delay, limit = firstDelay, maxDelay
	}
	for range f.Count - 1 {
		delay = min(2*delay, limit)
	}
	return f.At.Add(delay)
}
