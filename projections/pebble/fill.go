package pebble

import (
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Fill implements live.Store.
func (s *Store) Fill(batch []events.Event, outcomes []projections.Outcome) error {
	return s.commit(batch, outcomes)
}

// Filled implements live.Store.
func (s *Store) Filled() error { return nil }
