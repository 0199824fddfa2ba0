// Package past serves the Kubernetes API of the cluster as it was: upstream's own
// API server, reading from the history in place of etcd. Whatever can read the
// present (kubectl, k9s, a client-go program) can read any moment of the past, by a
// path before the path:
//
//	https://host:6443/rewind/@812/api/v1/pods    the pods as of sequence 812
//	https://host:6443/rewind/@812                which moment that is, as JSON
//
// The point may be anything that history.ParsePoint reads. Lists, selectors, pages,
// tables and discovery are upstream's; custom resources are served by the schemas of
// that moment. Who asks, and what they may see, is judged by the rules of the
// present: Wrap puts the past behind the filters of a running server, and
// api.ServePast behind those of a server that has no present.
//
// A chain of upstream's servers (aggregator, core, extensions) is started for each
// epoch, a stretch of the history in which the custom resource definitions are the
// same, when somebody asks for a moment of it; a few are kept, and none that is idle.
// Requests carry their moment in the context, and the backend, an etcd client in
// form, answers from a history.Reader. It never writes: neither do clients, who are
// told why not, nor do the servers themselves, whose background work is off.
package past

import (
	"cmp"
	"context"
	"time"

	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
)

// Reveal returns an object of the history as it may be shown, in canonical JSON:
// with the values readable that the log keeps sealed, as far as their key is still
// there.
type Reveal func(*projections.Entry) ([]byte, error)

// Options configure a Past. Only Reader is needed.
type Options struct {
	// Reader is the history.
	Reader history.Reader
	// Reveal opens what is sealed. Without it objects are shown as the log has them.
	Reveal Reveal
	// Chains is how many chains of servers may run at a time, which costs some 70 MB
	// each. Zero stands for 3.
	Chains int
	// Idle is how long a chain is kept that nobody asks. Zero stands for 5 minutes.
	Idle time.Duration
	// Patience is how long a chain may take to start, on a machine that does much else,
	// before it is given up. Zero stands for 2 minutes.
	Patience time.Duration
	// Now is the clock by which points such as "-15m" are read. Nil stands for
	// time.Now.
	Now func() time.Time
}

// Past answers requests about the past.
type Past struct {
	Options
	chains *chains
}

// New returns a Past, which starts nothing before it is asked. Close stops it.
func New(o Options) *Past {
	o.Chains = cmp.Or(o.Chains, 3)
	o.Idle = cmp.Or(o.Idle, 5*time.Minute)
	o.Patience = cmp.Or(o.Patience, 2*time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Past{Options: o, chains: newChains(o)}
}

// Close stops all servers of the past.
func (p *Past) Close() { p.chains.close() }

// Moment is a place in the history: right after the event with a sequence.
type Moment struct {
	// Sequence is that of the last event that had happened.
	Sequence uint64 `json:"sequence"`
	// Time is when it happened.
	Time time.Time `json:"time"`
}

// Resolve finds the moment that a person means by a point.
func (p *Past) Resolve(point string) (Moment, error) {
	parsed, err := history.ParsePoint(point, p.Now())
	if err != nil {
		return Moment{}, err
	}
	// Who asks may be anywhere: told are times as they are written where the point was.
	parsed.Afar = true
	if parsed.Now = parsed.Now.UTC(); !parsed.Time.IsZero() {
		parsed.Now = parsed.Now.In(parsed.Time.Location())
	}
	sequence, err := parsed.Resolve(p.Reader)
	if err != nil {
		return Moment{}, err
	}
	e, err := p.Reader.Event(sequence)
	return Moment{Sequence: sequence, Time: e.Time}, err
}

type momentKey struct{}

// within has what is read under the context be read at a moment, until end is called.
func within(ctx context.Context, m Moment) (then context.Context, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	a := new(ahead)
	return context.WithValue(context.WithValue(ctx, momentKey{}, m), aheadKey{}, a), func() {
		cancel()
		a.end()
	}
}

// momentOf returns the moment that a request is about. The servers' own requests
// are about none.
func momentOf(ctx context.Context) (Moment, bool) {
	m, ok := ctx.Value(momentKey{}).(Moment)
	return m, ok
}
