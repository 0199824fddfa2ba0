package load

import (
	"context"
	"time"
)

// A control plane has nothing more to do if it takes less than a tenth of a processor for
// some seconds in a row. Large clusters are never that quiet.
const (
	calmFor   = 3 // looks in a row
	patience  = 45 * time.Second
	calmShare = 10 // the part of a processor: one in so many
)

// quiet waits until the control plane has nothing more to do, or patience ends.
func (r *run) quiet(ctx context.Context) error {
	began := time.Now()
	calm, err := quiet(ctx, func() (time.Duration, error) { return sum(r.target.Control, cpuOf) })
	if err != nil {
		return err
	}
	r.result.Restless = !calm
	if !calm {
		r.Say("%s: it is still at work after %v", r.target.Side, time.Since(began).Round(time.Second))
	}
	return nil
}

// quiet looks at what was used until then, and says whether it has come to rest.
func quiet(ctx context.Context, used func() (time.Duration, error)) (calm bool, err error) {
	every := time.NewTicker(pollEvery)
	defer every.Stop()
	began := time.Now()
	at, before := began, time.Duration(0)
	if before, err = used(); err != nil {
		return false, err
	}
	for looks := 0; looks < calmFor; {
		if time.Since(began) >= patience {
			return false, nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		now, after := time.Now(), time.Duration(0)
		if after, err = used(); err != nil {
			return false, err
		}
		looks++
		if after-before > now.Sub(at)/calmShare {
			looks = 0
		}
		at, before = now, after
	}
	return true, nil
}
