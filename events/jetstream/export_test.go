package jetstream

import "context"

// HalfRemove begins to remove a subscriber, and stops there, as a crash does.
func HalfRemove(ctx context.Context, s *Subscribers, name string) error {
	_, err := s.doom(ctx, name)
	return err
}
