package committer

import (
	"context"

	"github.com/reprise-run/reprise/events"
)

// Stepper is a committer's run in the hands of who turns its loop himself, as the
// simulation of a whole cluster does: it does the same as Run and waits for
// nothing but the log and the index. It is used by one goroutine.
type Stepper struct {
	writer *writer
	lines  *lines
}

// Begin catches up with the log and returns the run that follows. As with Run,
// another of this or of another process may be under way: the log's fence keeps
// them apart.
func (c *Committer) Begin(ctx context.Context) (*Stepper, error) {
	w, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	return &Stepper{w, newLines(c.opts.Queue)}, nil
}

// Pending is a proposal that was offered.
type Pending struct{ reply chan answer }

// Offer puts a proposal in the queue, and returns nil if that is full.
func (s *Stepper) Offer(p events.Proposal) *Pending {
	r := &request{proposal: p, reply: make(chan answer, 1)}
	select {
	case s.lines.of(&r.proposal).queue <- r:
		return &Pending{r.reply}
	default:
		return nil
	}
}

// Answer returns what Propose would have, once, and false as long as there is no
// answer.
func (p *Pending) Answer() (receipt events.Receipt, err error, answered bool) {
	select {
	case a := <-p.reply:
		return a.receipt, a.err, true
	default:
		return events.Receipt{}, nil, false
	}
}

// Idle says that nothing waits to be dealt with.
func (s *Stepper) Idle() bool { return s.lines.empty() }

// Turn deals with what waits, as far as one append takes it. Like Run it fails
// with events.ErrStale if somebody else has appended; what is still queued is then
// never answered.
func (s *Stepper) Turn(ctx context.Context) error {
	if s.Idle() {
		return nil
	}
	return s.writer.turn(ctx, s.lines)
}
