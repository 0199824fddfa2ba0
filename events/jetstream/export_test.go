package jetstream

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
)

// HalfRemove begins to remove a subscriber, and stops there, as a crash does.
func HalfRemove(ctx context.Context, s *Subscribers, name string) error {
	_, err := s.doom(ctx, name)
	return err
}

// Consumer is the one that a subscriber is given.
func (s *Subscribers) Consumer(sub events.Subscriber) jetstream.ConsumerConfig {
	return s.consumer(sub)
}
