package committer

import (
	"context"

	"github.com/reprise-run/reprise/events"
)

// Route is a Proposer for both logs: proposals about volatile objects go to the
// one, all others to the other. Either may be a Committer or a way to reach one.
// A proposal that mixes both kinds is refused, for no append spans two logs.
type Route struct {
	History, Volatile events.Proposer
}

var _ events.Proposer = Route{}

// Propose is events.Proposer's.
func (r Route) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	if len(p.Changes) > 0 && events.Volatile(p.Changes[0].Object) {
		return r.Volatile.Propose(ctx, p)
	}
	return r.History.Propose(ctx, p)
}
