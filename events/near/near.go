// Package near spares a process from reading back what it appended itself: whoever
// follows the log there is handed the events as the committer appended them, once
// they are durable, and reads the log only for what others appended.
//
// cmd wires it between the committer and projections/live. It keeps nothing that the log
// has not.
//
// The events are shared: their bytes are those that were appended, and nobody may
// change them.
package near

import (
	"context"
	"sync"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Log is a log whose readers are told of what is appended through it.
type Log struct {
	events.Log
	opts Options

	mu sync.Mutex
	// recent has the last that were appended here, from begin to end-1, without gaps: each
	// at its sequence, from the start again and again.
	recent     []events.Event
	begin, end uint64
	bytes      int           // about what they hold
	moved      chan struct{} // closed and replaced when there are more
}

// Options adjust a Log. The zero value is for production.
type Options struct {
	// Recent is how many events are kept for readers at most; 2,048 if 0.
	Recent int
	// Bytes is how much these may hold; 16 MB if 0.
	Bytes int
	// Idle is how long a reader waits for what is appended here before it asks
	// the log itself, where others may have appended: a second if 0.
	Idle time.Duration
	// Busy is how many events within Idle make it worth while to leave the log
	// alone again; 64 if 0, and from the first on if negative.
	Busy int
}

// New returns the log with the shortcut.
func New(log events.Log, o Options) *Log {
	if o.Recent == 0 {
		o.Recent = 2048
	}
	if o.Bytes == 0 {
		o.Bytes = 16 << 20
	}
	if o.Idle == 0 {
		o.Idle = time.Second
	}
	if o.Busy == 0 {
		o.Busy = 64
	}
	return &Log{Log: log, opts: o, recent: make([]events.Event, o.Recent), moved: make(chan struct{})}
}

// Append is events.Log's.
func (l *Log) Append(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	last, err := l.Log.Append(ctx, after, batch)
	if err == nil && len(batch) > 0 {
		l.keep(after, batch)
	}
	return last, err
}

// at is where an event is kept.
func (l *Log) at(sequence uint64) *events.Event { return &l.recent[sequence%uint64(len(l.recent))] }

// keep remembers what has been appended, and tells the readers.
func (l *Log) keep(after uint64, batch []events.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != after+1 {
		l.forget(l.end)
		l.begin, l.end = after+1, after+1
	}
	for i := range batch {
		if l.end-l.begin == uint64(len(l.recent)) {
			l.forget(l.begin + 1)
		}
		e := l.at(l.end)
		*e = batch[i]
		e.Sequence = l.end
		l.end++
		l.bytes += size(e)
	}
	for l.bytes > l.opts.Bytes && l.begin < l.end {
		l.forget(l.begin + 1)
	}
	close(l.moved)
	l.moved = make(chan struct{})
}

// forget drops what is before a sequence.
func (l *Log) forget(before uint64) {
	for ; l.begin < before; l.begin++ {
		e := l.at(l.begin)
		l.bytes -= size(e)
		*e = events.Event{}
	}
}

func size(e *events.Event) int { return 512 + len(e.Data) + len(e.Note) + len(e.Asked) + e.Held() }

// since returns what was appended here from a sequence on, if that is still known
// without a gap, and a channel that is closed when there is more.
func (l *Log) since(next uint64) ([]events.Event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if next < l.begin || next >= l.end {
		return nil, l.moved
	}
	all := make([]events.Event, 0, l.end-next)
	for ; next < l.end; next++ {
		all = append(all, *l.at(next))
	}
	return all, l.moved
}

// Follow is events.Log's.
func (l *Log) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	far, err := l.Log.Follow(ctx, from)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &reader{log: l, far: far, next: from, closed: ctx, close: cancel}, nil
}
