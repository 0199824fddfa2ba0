package live

import (
	"cmp"
	"context"
	"fmt"
	"sync"

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

// buildAndStore reads and checks, folds, and stores, side by side and in order. All
// that was folded is stored when it returns, unless the context has ended or that
// failed.
func (l *Live) buildAndStore(ctx context.Context, reader events.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read, next := make(chan []events.Event, 4), make(chan built, 4)
	var reading, failed error
	var beside sync.WaitGroup
	beside.Go(func() {
		defer close(read)
		reading = l.read(ctx, reader, read)
	})
	beside.Go(func() {
		if failed = l.fill(next); failed != nil {
			cancel()
		}
	})
	folding := l.buildFrom(ctx, read, next)
	if folding != nil {
		cancel()
	}
	close(next)
	beside.Wait()
	// That the store failed, or that an event cannot be folded, is why the reading
	// ended, or else it must not go on.
	return cmp.Or(failed, folding, reading)
}

// read reads up to the target, and checks the chain.
func (l *Live) read(ctx context.Context, reader events.Reader, read chan<- []events.Event) error {
	at, chain := l.builder.Sequence(), l.chain
	for at < l.target {
		batch, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		if chain, err = check(at, chain, batch); err != nil {
			return err
		}
		at = batch[len(batch)-1].Sequence
		select {
		case read <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// buildFrom folds what was read.
func (l *Live) buildFrom(ctx context.Context, read <-chan []events.Event, next chan<- built) error {
	for batch := range read {
		outcomes, err := l.builder.Fold(batch)
		if err != nil {
			return &brokenError{err}
		}
		l.chain = batch[len(batch)-1].Chain
		select {
		case next <- built{batch, outcomes}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
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
