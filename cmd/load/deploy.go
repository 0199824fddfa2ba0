package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// under probes while something is done.
func (r *run) under(ctx context.Context, do func(context.Context) error) error {
	p := newProbes(r.client, probing)
	probe, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { p.follow(probe, r.Probes) })
	err := do(ctx)
	stop()
	done.Wait()
	r.result.Calls, r.result.FailedCalls = p.calls(), p.failed
	if p.failure != nil {
		r.result.Failure = p.failure.Error()
	}
	return err
}

// await waits until the observer has seen something, or the time is up.
func (r *run) await(ctx context.Context, what string, is func(tally) (have, want int)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Within, errTime)
	defer cancel()
	var have, want int
	err := r.observer.await(ctx, func() bool {
		have, want = is(r.observer.tally)
		return have >= want
	})
	return missed(err, "%d of %d pods are %s after %v", have, want, what, r.Within)
}

// missed says what was not reached if the time is up.
func missed(err error, format string, args ...any) error {
	if errors.Is(err, errTime) {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errTime)
	}
	return err
}

// settle waits until the Deployments agree that all is there, but not for long: upstream's
// controller has been seen to leave some of twenty thousand pods out until it looks at all
// again, hours later.
func (r *run) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, min(r.Within, agreement), errTime)
	defer cancel()
	err := r.available(ctx)
	if errors.Is(err, errTime) {
		r.result.Disagreed, err = true, nil
		r.Say("%s: some Deployments do not say that all their pods are available, %v after these were", r.target.Side, agreement)
	}
	return err
}

// agreement is how long Deployments may take to say what is so.
const agreement = 30 * time.Second

// start gets all pods ready.
func (r *run) start(ctx context.Context) error {
	if err := r.ask(ctx, r.create); err != nil {
		return err
	}
	if err := r.await(ctx, "ready", func(t tally) (int, int) { return t.running, r.scenario.Pods }); err != nil {
		return err
	}
	return r.settle(ctx)
}

// deploy is the scenario of that name.
func (r *run) deploy(ctx context.Context) error {
	if err := r.measuredStart(ctx); err != nil {
		return err
	}
	return r.measuredEnd(ctx)
}

// measuredEnd deletes all pods and measures what it takes, until all is quiet again.
func (r *run) measuredEnd(ctx context.Context) error {
	from, err := r.read(ctx)
	if err != nil {
		return err
	}
	if err := r.ask(ctx, r.remove); err != nil {
		return err
	}
	late := r.await(ctx, "gone", func(t tally) (int, int) { return t.gone, t.created })
	to, err := r.read(ctx)
	if err != nil {
		return err
	}
	r.step("gone", r.scenario.Pods, from.at, "request", r.asks(), func(l *life) time.Time { return l.gone })
	gone := r.result.Step("gone").Count
	r.result.Down = cost(from, to, gone)
	r.Say("%s: %d pods are gone", r.target.Side, gone)
	if err := r.quiet(ctx); err != nil {
		return err
	}
	rest, err := r.read(ctx)
	if err != nil {
		return err
	}
	r.result.After = cost(to, rest, gone)
	return late
}

// measuredStart gets all pods ready and measures what it takes.
func (r *run) measuredStart(ctx context.Context) error {
	from, err := r.read(ctx)
	if err != nil {
		return err
	}
	beside := r.beside(ctx)
	late := r.under(ctx, r.start)
	if late != nil && !errors.Is(late, errTime) {
		return late
	}
	to, err := r.read(ctx)
	if err != nil {
		return err
	}
	if err := <-beside; err != nil {
		return err
	}
	r.steps(r.scenario.Pods, from.at, "request", r.asks())
	running := r.result.Step("running").Count
	r.up(from, to, running)
	r.Say("%s: %d pods are ready after %v", r.target.Side, running, to.at.Sub(from.at).Round(100*time.Millisecond))
	return late
}

// beside starts what runs beside the load, and returns how that ends.
func (r *run) beside(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	if r.Beside == nil {
		close(ended)
		return ended
	}
	go func() { ended <- r.Beside(ctx) }()
	return ended
}

// roll is the scenario of a rolling update: every pod is replaced.
func (r *run) roll(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	old := r.observer.forget()
	if err := r.quiet(ctx); err != nil {
		return err
	}
	from, err := r.read(ctx)
	if err != nil {
		return err
	}
	late := r.under(ctx, func(ctx context.Context) error {
		if err := r.ask(ctx, r.change); err != nil {
			return err
		}
		err := r.await(ctx, "replaced", func(t tally) (int, int) { return min(t.running, t.gone), len(old) })
		return errors.Join(err, r.settle(ctx))
	})
	if late != nil && !errors.Is(late, errTime) {
		return late
	}
	to, err := r.read(ctx)
	if err != nil {
		return err
	}
	r.steps(len(old), from.at, "request", r.asks())
	r.ended(len(old), from.at, r.asks())
	r.up(from, to, r.result.Step("running").Count)
	return late
}

// ended measures the end of the pods that were there before.
func (r *run) ended(want int, began time.Time, from func(*life) time.Time) {
	var took []time.Duration
	last := began
	r.observer.mu.Lock()
	for _, l := range r.observer.before {
		if l.gone.IsZero() {
			continue
		}
		took = append(took, l.gone.Sub(from(l)))
		if l.gone.After(last) {
			last = l.gone
		}
	}
	r.observer.mu.Unlock()
	r.add("gone", want, last.Sub(began), "request", took)
}
