package history

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/reprise-run/reprise/events"
)

// Chain yields an event, the one that led to it, and so on to the one whose cause
// lies outside of the log: a person's command, whose User and Audit it has, or an
// outside fact. In a history that begins in the middle of a log it ends with an event
// whose cause came before that. An error ends it.
func Chain(r Reader, sequence uint64) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		for asked := sequence; ; {
			e, err := r.Event(sequence)
			if err != nil {
				if errors.Is(err, events.ErrNotFound) {
					first, _, spanErr := Span(r)
					if spanErr == nil && sequence < first.Sequence && asked >= first.Sequence {
						return
					}
					err = missing(r, sequence)
				}
				yield(e, err)
				return
			}
			if !yield(e, nil) || e.Cause == 0 {
				return
			}
			if e.Cause >= sequence {
				yield(events.Event{}, fmt.Errorf("event %d names event %d as its cause, which came later: the log is damaged", sequence, e.Cause))
				return
			}
			sequence = e.Cause
		}
	}
}

// missing says that an event is not there, and what is.
func missing(r Reader, sequence uint64) error {
	first, last, err := Span(r)
	if err != nil {
		return err
	}
	return missingError{sequence, first.Sequence, last.Sequence}
}

// missingError says that there is no event at a sequence, but from first to last.
type missingError struct{ sequence, first, last uint64 }

func (e missingError) Error() string {
	return fmt.Sprintf("there is no event %d: the log goes from sequence %d to %d", e.sequence, e.first, e.last)
}

func (missingError) Unwrap() error { return events.ErrNotFound }

// Why returns the chain of causes of an event, itself first.
func Why(r Reader, sequence uint64) ([]events.Event, error) {
	var chain []events.Event
	for e, err := range Chain(r, sequence) {
		if err != nil {
			return chain, err
		}
		chain = append(chain, e)
	}
	return chain, nil
}

// Tree is an event with what followed from it.
type Tree struct {
	Told
	Then []*Tree
}

// Down returns what followed from an event, and from that in turn: following says
// what followed from some events, of each in turn. No more than limit events are
// taken, those nearest to the event first; the bool says whether there were more.
func Down(root Told, limit int, following func(causes []uint64) iter.Seq2[Told, error]) (*Tree, bool, error) {
	tree := &Tree{Told: root}
	for level, taken := []*Tree{tree}, 1; len(level) > 0; {
		nodes := make(map[uint64]*Tree, len(level))
		var causes []uint64
		for _, t := range level {
			nodes[t.Event.Sequence] = t
			causes = append(causes, t.Event.Sequence)
		}
		level = nil
		for ; len(causes) > 0; causes = causes[min(batch, len(causes)):] {
			for told, err := range following(causes[:min(batch, len(causes))]) {
				if err != nil {
					return tree, false, err
				}
				if taken++; taken > limit {
					return tree, true, nil
				}
				next, cause := &Tree{Told: told}, nodes[told.Event.Cause]
				if cause == nil {
					return tree, false, fmt.Errorf("event %d did not follow from what it was asked after", told.Event.Sequence)
				}
				cause.Then = append(cause.Then, next)
				level = append(level, next)
			}
		}
	}
	return tree, false, nil
}

// batch is how many causes are asked about at once.
const batch = 1000

// Following is how Down asks a reader.
func Following(ctx context.Context, r Reader) func(causes []uint64) iter.Seq2[Told, error] {
	return func(causes []uint64) iter.Seq2[Told, error] {
		return func(yield func(Told, error) bool) {
			for _, cause := range causes {
				for e, err := range r.Following(ctx, cause) {
					var told Told
					if err == nil {
						told, err = Tell(r, e)
					}
					if !yield(told, err) || err != nil {
						return
					}
				}
			}
		}
	}
}
