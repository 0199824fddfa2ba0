package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
)

// pastLog is a history that can be read from its beginning: that of the running
// server, or an archive's.
type pastLog interface {
	// point finds the sequence of a point that a person has written.
	point(ctx context.Context, text string) (uint64, error)
	// state is the cluster before the first event.
	state() (*projections.State, error)
	// batches yields the events, up to a sequence unless it is zero. An error ends
	// it. What it yields is the caller's.
	batches(ctx context.Context, to uint64) iter.Seq2[[]events.Event, error]
}

// past lets f read the history in a file, or if there is none in the archive that is
// open, or of the running server.
func (e *environment) past(file string, f func(pastLog) error) error {
	if file = cmp.Or(file, e.opened()); file == "" {
		return e.ask(func(h *historian.Client) error { return f(servedLog{h}) })
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("cannot read the archive: %w", err)
	}
	return f(archivedLog(file))
}

// servedLog is the history of the running server.
type servedLog struct{ *historian.Client }

func (s servedLog) point(ctx context.Context, text string) (uint64, error) {
	return resolve(ctx, s.Client, text)
}

func (servedLog) state() (*projections.State, error) { return projections.NewState(), nil }

func (s servedLog) batches(ctx context.Context, to uint64) iter.Seq2[[]events.Event, error] {
	return func(yield func([]events.Event, error) bool) {
		for e, err := range s.Events(ctx, history.Query{First: 1, Last: to}) {
			if !yield([]events.Event{e}, err) || err != nil {
				return
			}
		}
	}
}

// archivedLog is the path of an archive.
type archivedLog string

func (a archivedLog) open() (*archive.Reader, *os.File, error) {
	f, err := os.Open(string(a))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the archive: %w", err)
	}
	r, err := archive.NewReader(f)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", a, err)
	}
	return r, f, nil
}

// point looks through the archive for a time; a sequence it takes as it is.
func (a archivedLog) point(ctx context.Context, text string) (uint64, error) {
	p, err := history.ParsePoint(text, time.Now())
	if err != nil {
		return 0, err
	}
	r, f, err := a.open()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	defer r.Close()
	h := r.Header()
	if p.Sequence != 0 && (p.Sequence < h.From || p.Sequence > h.To) {
		return 0, fmt.Errorf("%s: the archive holds the events from @%d to @%d", text, h.From, h.To)
	}
	if p.Sequence != 0 {
		return p.Sequence, nil
	}
	if p.Time.IsZero() {
		return h.To, nil
	}
	if p.Time.After(p.Now) {
		return 0, fmt.Errorf("%s is in the future: the archive ends at @%d", text, h.To)
	}
	found := uint64(0)
	for batch, err := range a.batches(ctx, 0) {
		if err != nil {
			return 0, err
		}
		for i := range batch {
			if batch[i].Time.After(p.Time) {
				break
			}
			found = batch[i].Sequence
		}
		if batch[len(batch)-1].Time.After(p.Time) {
			break
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("%s is before the first event of the archive", text)
	}
	return found, nil
}

func (a archivedLog) state() (*projections.State, error) {
	r, f, err := a.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer r.Close()
	state := projections.NewState()
	state.StartAt(r.Header().From - 1)
	for o, err := range r.Objects() {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
		entry := projections.NewEntry(o.Ref, o.UID, o.Created, o.Sequence, o.Raw)
		entry.Version = o.Version
		state.Put(entry)
	}
	return state, nil
}

var errInterrupted = errors.New("interrupted")

func (a archivedLog) batches(ctx context.Context, to uint64) iter.Seq2[[]events.Event, error] {
	return func(yield func([]events.Event, error) bool) {
		r, f, err := a.open()
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		defer r.Close()
		for _, err := range r.Objects() {
			if err != nil {
				yield(nil, fmt.Errorf("%s: %w", a, err))
				return
			}
		}
		for batch, err := range r.Batches() {
			switch {
			case err != nil:
				err = fmt.Errorf("%s: %w", a, err)
			case ctx.Err() != nil:
				err = errInterrupted
			case to != 0 && batch[0].Sequence > to:
				return
			case to != 0:
				batch = batch[:min(uint64(len(batch)), to-batch[0].Sequence+1)]
			}
			if !yield(batch, err) || err != nil {
				return
			}
		}
	}
}
