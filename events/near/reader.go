package near

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/reprise-run/reprise/events"
)

// reader is at first and in quiet times with the log itself, far. When much is
// appended here it closes that, and is handed what is appended, until there is
// nothing more for a while or something was appended elsewhere.
type reader struct {
	log *Log

	mu   sync.Mutex    // held by Next, and by Close once Next has returned
	far  events.Reader // nil while the reader is near
	next uint64        // the sequence that must come now; of a log that forgets, at least

	window time.Time // when the counting began
	count  int       // events read from the log since then

	closed context.Context
	close  context.CancelFunc
}

var errClosed = errors.New("the reader of the log is closed")

// Next is events.Reader's.
func (r *reader) Next(ctx context.Context) ([]events.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.closed, cancel)()
	for {
		batch, err := r.step(ctx)
		if r.closed.Err() != nil {
			return nil, errClosed
		}
		if len(batch) > 0 {
			r.next = batch[len(batch)-1].Sequence + 1
		}
		if err != nil || len(batch) > 0 {
			return batch, err
		}
	}
}

// step reads from where the reader is, or has it change sides.
func (r *reader) step(ctx context.Context) ([]events.Event, error) {
	batch, moved := r.log.since(r.next)
	if r.far != nil {
		if len(batch) == 0 || !r.busy() {
			return r.fromLog(ctx)
		}
		r.leave()
	}
	if len(batch) > 0 {
		return batch, nil
	}
	idle := time.NewTimer(r.log.opts.Idle)
	defer idle.Stop()
	select {
	case <-moved:
		if batch, _ = r.log.since(r.next); len(batch) > 0 {
			return batch, nil
		}
	case <-idle.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	far, err := r.log.Log.Follow(ctx, r.next)
	r.far, r.window, r.count = far, time.Now(), 0
	return nil, err
}

// fromLog reads the log itself.
func (r *reader) fromLog(ctx context.Context) ([]events.Event, error) {
	batch, err := r.far.Next(ctx)
	if now := time.Now(); now.Sub(r.window) > r.log.opts.Idle {
		r.window, r.count = now, 0
	}
	r.count += len(batch)
	return batch, err
}

// busy says that so much comes that it is better not to read it.
func (r *reader) busy() bool { return r.count > r.log.opts.Busy }

// leave gives up reading the log itself.
func (r *reader) leave() {
	if r.far != nil {
		// Closing what is not needed any more cannot fail in a way that matters.
		_ = r.far.Close()
		r.far = nil
	}
}

// Close is events.Reader's.
func (r *reader) Close() error {
	r.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave()
	return nil
}
