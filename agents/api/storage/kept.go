package storage

import (
	"context"
	"slices"
	"sync"
	"time"
)

// How long a state stays for who reads a list by pages: as long as upstream's etcd would
// have it, unless so much has happened since that the objects which are in it and nowhere
// else would take too much memory.
const (
	keptFor     = 5 * time.Minute
	keptChanges = 1 << 16
	keptStates  = 64
)

// kept are the states at which lists were begun.
type kept struct {
	mu     sync.Mutex
	states []state // the oldest come first
}

type state struct {
	past
	since time.Time
}

// keep has a state be there for the pages of a list. If it is gone already, who asks for
// the next page hears of that.
func (s *stream) keep(ctx context.Context, revision uint64) {
	if p, err := s.at(ctx, revision); err == nil {
		s.kept.add(p, time.Now())
	}
}

func (k *kept) add(p past, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.ContainsFunc(k.states, func(s state) bool { return s.revision == p.revision }) {
		return
	}
	if len(k.states) == keptStates {
		k.states = slices.Delete(k.states, 0, 1)
	}
	k.states = append(k.states, state{p, now})
}

func (k *kept) at(revision uint64) (past, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.states {
		if s.revision == revision {
			return s.past, true
		}
	}
	return past{}, false
}

// forget drops what is too old at a time and a revision.
func (k *kept) forget(now time.Time, revision uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.states = slices.DeleteFunc(k.states, func(s state) bool {
		return now.Sub(s.since) > keptFor || revision-min(s.revision, revision) > keptChanges
	})
}

// tend forgets, now and then, until the context ends.
func (s *stream) tend(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			s.kept.forget(now, s.Projection.View().Sequence())
		case <-ctx.Done():
			return
		}
	}
}
