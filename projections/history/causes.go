package history

import (
	"context"
	"fmt"

	"github.com/reprise-run/reprise/events"
)

// Why returns the chain of causes of an event: the event itself, the one that
// led to it, and so on to the one whose cause lies outside of the log: a
// person's command, whose User and Audit it has, or an outside fact.
func Why(r Reader, sequence uint64) ([]events.Event, error) {
	var chain []events.Event
	for {
		e, err := r.Event(sequence)
		if err != nil {
			return chain, err
		}
		chain = append(chain, e)
		if e.Cause == 0 {
			return chain, nil
		}
		if e.Cause >= sequence {
			return chain, fmt.Errorf("event %d names event %d as its cause, which came later: the log is damaged", sequence, e.Cause)
		}
		sequence = e.Cause
	}
}

// Tree is an event with what followed from it.
type Tree struct {
	Event events.Event
	Then  []*Tree
}

// Down returns what followed from an event, and from that in turn. No more than
// limit events are taken, those nearest to the event first; the bool says
// whether there were more.
func Down(ctx context.Context, r Reader, sequence uint64, limit int) (*Tree, bool, error) {
	e, err := r.Event(sequence)
	if err != nil {
		return nil, false, err
	}
	root := &Tree{Event: e}
	for queue, taken := []*Tree{root}, 1; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for e, err := range r.Following(ctx, at.Event.Sequence) {
			if err != nil {
				return root, false, err
			}
			if taken++; taken > limit {
				return root, true, nil
			}
			next := &Tree{Event: e}
			at.Then = append(at.Then, next)
			queue = append(queue, next)
		}
	}
	return root, false, nil
}
