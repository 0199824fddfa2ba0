package live

import (
	"context"
	"fmt"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// built is what the builder has folded and the store has not.
type built struct {
	batch    []events.Event
	outcomes []projections.Outcome
}

// build folds what comes from a reader up to the target, and stores it side by side
// with that. Then it shows everybody what has come of it. If the reader fails, the
// next one goes on.
func (l *Live) build(ctx context.Context, reader events.Reader) error {
	err := l.buildAndStore(ctx, reader)
	if err != nil {
		return err
	}
	if l.opts.Store != nil {
		if err := l.opts.Store.Filled(); err != nil {
			return storing(l.builder.Sequence(), err)
		}
	}
	l.state, l.builder = l.builder.State(), nil
	l.mu.Lock()
	l.recent = newRing(l.opts.Recent, l.state.Sequence())
	l.mu.Unlock()
	l.publish(folded{view: l.state.View()})
	return nil
}

func (l *Live) buildAndStore(ctx context.Context, reader events.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan built, 4)
	stored := make(chan error, 1)
	go func() {
		defer cancel()
		stored <- l.fill(next)
	}()
	err := l.buildFrom(ctx, reader, next)
	close(next)
	// That the store failed is why the reading ended, or else it must not go on.
	if failed := <-stored; failed != nil {
		return failed
	}
	return err
}

// fill stores what is built.
func (l *Live) fill(next <-chan built) error {
	for b := range next {
		if l.opts.Store == nil {
			continue
		}
		if err := l.opts.Store.Fill(b.batch, b.outcomes); err != nil {
			return storing(b.batch[len(b.batch)-1].Sequence, err)
		}
	}
	return nil
}

func storing(sequence uint64, err error) error {
	return &brokenError{fmt.Errorf("cannot store the projection at sequence %d: %w", sequence, err)}
}

func (l *Live) buildFrom(ctx context.Context, reader events.Reader, next chan<- built) error {
	for l.builder.Sequence() < l.target {
		batch, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		if err := l.check(batch); err != nil {
			return err
		}
		outcomes, err := l.builder.Fold(batch)
		if err != nil {
			return &brokenError{err}
		}
		select {
		case next <- built{batch, outcomes}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
