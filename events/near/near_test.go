package near

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/logtest"
	"github.com/reprise-run/reprise/events/memlog"
)

// TestContract holds the log to the contract of all logs but for one thing: what
// is read is shared, so copies are made here.
func TestContract(t *testing.T) {
	for name, o := range map[string]Options{
		"near at once": {Busy: -1},
		"near if busy": {},
		"forgetful":    {Busy: -1, Recent: 3, Bytes: 4000},
		"restless":     {Busy: -1, Idle: 1},
	} {
		t.Run(name, func(t *testing.T) {
			logtest.Run(t, func(*testing.T) events.Log { return copying{New(memlog.New(), o)} }, nil)
		})
	}
}

type copying struct{ *Log }

func (l copying) Append(ctx context.Context, after uint64, batch []events.Event) (uint64, error) {
	return l.Log.Append(ctx, after, copies(batch))
}

func (l copying) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	r, err := l.Log.Follow(ctx, from)
	if err != nil {
		return nil, err
	}
	return copyingReader{r}, nil
}

type copyingReader struct{ events.Reader }

func (r copyingReader) Next(ctx context.Context) ([]events.Event, error) {
	got, err := r.Reader.Next(ctx)
	return copies(got), err
}

func copies(all []events.Event) []events.Event {
	var out []events.Event
	for _, e := range all {
		e.Data, e.Note, e.Asked = bytes.Clone(e.Data), bytes.Clone(e.Note), bytes.Clone(e.Asked)
		out = append(out, e)
	}
	return out
}

// counting counts what is read from a log.
type counting struct {
	events.Log
	read atomic.Int64
}

func (l *counting) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	r, err := l.Log.Follow(ctx, from)
	return countingReader{r, l}, err
}

type countingReader struct {
	events.Reader
	log *counting
}

func (r countingReader) Next(ctx context.Context) ([]events.Event, error) {
	got, err := r.Reader.Next(ctx)
	r.log.read.Add(int64(len(got)))
	return got, err
}

// rig is a log with a reader at its beginning.
type rig struct {
	t    *testing.T
	far  *counting
	near *Log
	read events.Reader
	last uint64
}

func newRig(t *testing.T, o Options) *rig {
	far := &counting{Log: memlog.New()}
	r := &rig{t: t, far: far, near: New(far, o)}
	var err error
	if r.read, err = r.near.Follow(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.read.Close() })
	return r
}

// append appends events, each a decision, through this process or past it.
func (r *rig) append(to events.Log, n int) {
	r.t.Helper()
	batch := make([]events.Event, n)
	for i := range batch {
		batch[i] = events.Event{Type: "x.y", Data: fmt.Append(nil, i)}
	}
	var err error
	if r.last, err = to.Append(r.t.Context(), r.last, batch); err != nil {
		r.t.Fatal(err)
	}
}

// expect reads up to the end of the log, and says how much was not handed over.
func (r *rig) expect(first, last, far uint64) {
	r.t.Helper()
	before := r.far.read.Load()
	for next := first; next <= last; {
		got, err := r.read.Next(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		for _, e := range got {
			if e.Sequence != next {
				r.t.Fatalf("got sequence %d, want %d", e.Sequence, next)
			}
			next++
		}
	}
	if read := uint64(r.far.read.Load() - before); read != far {
		r.t.Errorf("%d of the events %d to %d were read from the log, want %d", read, first, last, far)
	}
}

func TestWhatIsAppendedHereIsNotReadBack(t *testing.T) {
	r := newRig(t, Options{Busy: -1})
	for n := range 10 {
		r.append(r.near, n+1)
		r.expect(r.last-uint64(n), r.last, 0)
	}
}

func TestAReaderMovesWhenThereIsMuch(t *testing.T) {
	r := newRig(t, Options{Busy: 5})
	for n := uint64(1); n <= 6; n++ {
		r.append(r.near, 1)
		r.expect(n, n, 1)
	}
	r.append(r.near, 100)
	r.expect(7, 106, 0)
}

func TestWhatOthersAppendIsReadFromTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Busy: 5})
		r.append(r.near, 6)
		r.expect(1, 6, 6)
		r.append(r.near, 1)
		r.expect(7, 7, 0)
		r.append(r.far, 3) // nobody says so: it is found when the time is up
		r.expect(8, 10, 3)
		r.append(r.near, 6)
		r.expect(11, 16, 6)
		r.append(r.far, 1)
		r.append(r.near, 1) // there is a gap between what was handed over and this
		r.expect(17, 18, 2)
	})
}

func TestASlowReaderCatchesUpFromTheLog(t *testing.T) {
	r := newRig(t, Options{Busy: -1, Recent: 10})
	r.append(r.near, 1)
	r.expect(1, 1, 0)
	r.append(r.near, 8)
	r.append(r.near, 8)
	r.expect(2, 17, 16)
	r.append(r.near, 1)
	r.expect(18, 18, 0)
}
