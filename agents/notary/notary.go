// Package notary vouches for the log. Now and then, when enough events have come or
// some have waited long enough, it signs a checkpoint of the log as it is then
// (events/proof), writes it to files that lie apart from the log, and records it in
// the log itself.
//
// When that is due is decided by Notary, a runner.Decider. The Signer, which holds
// the key, is the gate that its command passes: the one thing that is not pure.
//
// # What is durable before what
//
// A checkpoint is of events that are in the log already. It is on disk in the files
// before the log records it. The tree is kept beside, for the next start only: it is
// believed as far as a signed checkpoint confirms it. At the start nothing is signed
// before the last checkpoint was found to be of this very log.
package notary

import (
	"encoding/json"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/proof"
	"github.com/reprise-run/reprise/projections"
)

// sign is the verb of the notary's command.
const sign runner.Verb = "sign"

// Options say when a checkpoint is due.
type Options struct {
	// Events is how many events make one due at once; 1,000 if 0.
	Events uint64
	// Interval is how long an event waits for one at most; five minutes if 0.
	Interval time.Duration
}

// Notary is the runner.Decider.
type Notary struct {
	object events.Ref
	opts   Options
}

// New returns the notary whose checkpoints are recorded under an object:
// proof.RefOf its key.
func New(object events.Ref, o Options) Notary {
	if o.Events == 0 {
		o.Events = 1000
	}
	if o.Interval == 0 {
		o.Interval = 5 * time.Minute
	}
	return Notary{object, o}
}

// Actor is notary.
func (Notary) Actor() events.Actor { return actor }

var actor = events.Actor{Kind: "notary"}

// Concerns names the one item that there is, whatever changed: but for what the
// notary itself wrote, so that a log in which nothing else happens does not grow.
func (n Notary) Concerns(_ runner.View, c projections.Change) []events.Ref {
	if c.Event.Object == n.object && c.Event.Type != "" {
		return nil
	}
	return []events.Ref{n.object}
}

// Decide commands a checkpoint if one is due, and otherwise says when one will be.
func (n Notary) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	due, wake := n.due(v.Get(n.object), v.Sequence(), now)
	if !due {
		return runner.Result{Wake: wake}
	}
	return runner.Result{Commands: []runner.Command{{Verb: sign, Object: n.object, Because: item.Because}}}
}

// due says whether a checkpoint is due given what was recorded last (nil: nothing)
// and where the log ends, and otherwise when one will be, zero for never.
func (n Notary) due(e *projections.Entry, end uint64, now time.Time) (bool, time.Time) {
	if e == nil {
		return end > 0, time.Time{}
	}
	last := recordOf(e)
	// The recording itself came after what it speaks of.
	own := uint64(1)
	if e.Created > last.Size {
		own = 2
	}
	if end <= last.Size+own {
		return false, time.Time{}
	}
	at := last.Time.Add(n.opts.Interval)
	return end-last.Size-own >= n.opts.Events || !now.Before(at), at
}

// recordOf reads what an object says was signed last. What cannot be read is no
// reason to sign no more.
func recordOf(e *projections.Entry) (r proof.Record) {
	if raw := events.Lookup(e.Raw, "status"); raw != nil && json.Unmarshal(raw, &r) != nil {
		return proof.Record{}
	}
	return r
}
