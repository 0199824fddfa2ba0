package main

import (
	"context"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
)

// onFiles is a log that is read from its files as far as they go, which costs less than
// to ask JetStream for it and keeps out of the way of those who append.
type onFiles struct {
	events.Log
	dir string
}

// Follow is events.Log's. Only a reader from the first event on can use the files,
// which do not say what they begin with.
func (l onFiles) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	if from != 1 {
		return l.Log.Follow(ctx, from)
	}
	last, err := l.Log.Last(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := blocks.Open(l.dir, subjectPrefix)
	if err != nil {
		return l.Log.Follow(ctx, from)
	}
	reader, err := stream.Log(last).Follow(ctx, from)
	return &fileReader{Reader: reader, log: l.Log, next: from, last: last}, err
}

// fileReader reads files, and where they end the log.
type fileReader struct {
	events.Reader
	log        events.Log
	next, last uint64
	beyond     bool // the files are done with
}

// Next is events.Reader's.
func (r *fileReader) Next(ctx context.Context) ([]events.Event, error) {
	if !r.beyond && r.next <= r.last {
		run, err := r.Reader.Next(ctx)
		if err == nil && run[0].Sequence == r.next {
			r.next = run[len(run)-1].Sequence + 1
			return run, nil
		}
	}
	if !r.beyond {
		// The newest events may not be whole in a file, or its block may just have been
		// compressed. Whether events are missing the log itself can tell.
		after, err := r.log.Follow(ctx, r.next)
		if err != nil {
			return nil, err
		}
		r.Reader, r.beyond = after, true
	}
	return r.Reader.Next(ctx)
}
