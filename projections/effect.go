package projections

import "github.com/reprise-run/reprise/events"

// effectOf says what the event does to its object.
func effectOf(ev *events.Event) (events.Effect, error) {
	switch {
	case events.IsRemoval(ev.Data):
		return events.Removes, nil
	case len(ev.Data) > 0 && ev.Data[0] == '[':
		return events.Changes, nil
	case len(ev.Data) > 0 && ev.Data[0] == '{' && events.Volatile(ev.Object):
		return events.Puts, nil
	case len(ev.Data) > 0 && ev.Data[0] == '{':
		return events.Creates, nil
	}
	return 0, &UnknownTypeError{ev.Sequence, ev.Type, ev.Object}
}
