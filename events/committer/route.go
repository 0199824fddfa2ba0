package committer

import (
	"context"

	"github.com/reprise-run/reprise/events"
)

// Route is a Proposer for both logs: proposals about volatile objects go to the
// one, all others to the other. Either may be a Committer or a way to reach one.
// A proposal that mixes both kinds is refused, for no append spans two logs.
type Route struct {
	History, Volatile events.Offerer
}

var _ events.Offerer = Route{}

// Propose is events.Proposer's.
func (r Route) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	return r.to(&p).Propose(ctx, p)
}

// Offer is events.Offerer's.
func (r Route) Offer(ctx context.Context, p events.Proposal) (func() (events.Receipt, error), error) {
	return r.to(&p).Offer(ctx, p)
}

func (r Route) to(p *events.Proposal) events.Offerer {
	if p.Volatile() {
		return r.Volatile
	}
	return r.History
}
