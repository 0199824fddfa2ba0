package projections

import "github.com/reprise-run/reprise/events"

// effectOf says what the event does to its object, by the owners table, and
// refuses what the table does not allow: an unknown type, a writer who does not
// own it, a path that it may not touch.
func effectOf(ev *events.Event) (events.Effect, error) {
	effect, known := events.EffectOf(ev.Type, ev.Object)
	if !known {
		return 0, &UnknownTypeError{ev.Sequence, ev.Type, ev.Object}
	}
	if err := ev.Check(); err != nil {
		return 0, rejected(ev, "%v", err)
	}
	return effect, nil
}
