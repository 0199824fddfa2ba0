package projections

import (
	"strings"

	"github.com/reprise-run/reprise/events"
)

// effectOf says what the event does to its object, by the owners table, and
// refuses what the table does not allow: an unknown type, a writer who does not
// own it, a path that it may not touch. It returns the patch's operations if
// there is one.
func effectOf(ev *events.Event) (events.Effect, []events.Op, error) {
	if effect, ops, known := ev.Judged(); known {
		return effect, ops, nil
	}
	return appendEffect(nil, ev)
}

// appendEffect is effectOf that appends the operations to others.
func appendEffect(ops []events.Op, ev *events.Event) (events.Effect, []events.Op, error) {
	effect, known, ops, err := events.AppendChecked(ops, ev)
	if !known {
		return 0, nil, &UnknownTypeError{ev.Sequence, ev.Type, ev.Object}
	}
	if err != nil {
		return 0, nil, rejected(ev, "%v", err)
	}
	return effect, ops, nil
}

// relinks says whether a patch may change what Entry.link reads.
func relinks(ops []events.Op) bool {
	for _, op := range ops {
		for _, read := range [...]string{"/metadata/ownerReferences", "/spec/nodeName"} {
			if strings.HasPrefix(op.Path, read) || strings.HasPrefix(read, op.Path) {
				return true
			}
		}
	}
	return false
}
