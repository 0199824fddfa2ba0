package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	quick "github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

// proposeSubject is where an actor's proposals are published. The subject alone
// says who proposes: permission to publish there is permission to speak for that
// actor.
func proposeSubject(prefix string, actor events.Actor) (string, error) {
	name, err := actorToken(actor.Name)
	if err != nil {
		return "", err
	}
	kind, err := actorToken(actor.Kind)
	if err != nil || actor.Kind == "" {
		return "", fmt.Errorf("%q cannot be the kind of an actor", actor.Kind)
	}
	return prefix + ".propose." + kind + "." + name, nil
}

func proposingActor(subject string) (events.Actor, bool) {
	t := strings.Split(subject, ".")
	if len(t) != 4 {
		return events.Actor{}, false
	}
	return events.Actor{Kind: actorName(t[2]), Name: actorName(t[3])}, true
}

// answer is what comes back for a proposal: a receipt, or one of the errors that
// events.Proposer speaks of.
type answer struct {
	Receipt     events.Receipt
	Conflict    *events.ConflictError `json:",omitempty"`
	Refused     *events.RefusedError  `json:",omitempty"`
	Unavailable string                `json:",omitempty"`
	Uncertain   string                `json:",omitempty"`
	Failed      string                `json:",omitempty"`
	// Heard says that it was taken note of that the node which proposes is there.
	Heard bool `json:",omitempty"`
}

func answerOf(r events.Receipt, err error) answer {
	a := answer{Receipt: r}
	switch {
	case err == nil:
	case errors.As(err, &a.Conflict), errors.As(err, &a.Refused):
	case errors.Is(err, events.ErrUnavailable):
		a.Unavailable = err.Error()
	case errors.Is(err, events.ErrUncertain), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		a.Uncertain = err.Error()
	default:
		a.Failed = err.Error()
	}
	return a
}

func (a answer) result() (events.Receipt, error) {
	switch {
	case a.Conflict != nil:
		return events.Receipt{}, a.Conflict
	case a.Refused != nil:
		return events.Receipt{}, a.Refused
	case a.Unavailable != "":
		return events.Receipt{}, remote{a.Unavailable, events.ErrUnavailable}
	case a.Uncertain != "":
		return events.Receipt{}, remote{a.Uncertain, events.ErrUncertain}
	case a.Failed != "":
		return events.Receipt{}, errors.New(a.Failed)
	}
	return a.Receipt, nil
}

// remote is an error that was wrapped where it arose: its text is whole.
type remote struct {
	text string
	is   error
}

func (e remote) Error() string { return e.text }
func (e remote) Unwrap() error { return e.is }

// Remote reaches the committer by NATS. It is an events.Offerer.
type Remote struct {
	nc     *nats.Conn
	prefix string
	// only, if not nil, is the one actor that may propose.
	only    *events.Actor
	patient time.Duration
	// heard is Heard, in nanoseconds since began.
	began time.Time
	heard atomic.Int64
}

// Heard is when the newest proposal was sent of whose actor a server said that it took
// note, zero if there is none. Only nodes are taken note of.
func (r *Remote) Heard() time.Time {
	if since := r.heard.Load(); since > 0 {
		return r.began.Add(time.Duration(since))
	}
	return time.Time{}
}

// note takes note of a proposal that was sent so long after began, and heard.
func (r *Remote) note(sent time.Duration) {
	for {
		newest := r.heard.Load()
		if int64(sent) <= newest || r.heard.CompareAndSwap(newest, int64(sent)) {
			return
		}
	}
}

// NewProposer returns a proposer that sends what one actor proposes to wherever
// the committer runs. An answer that does not come within a Propose's context, or
// ten seconds, is events.ErrUncertain.
func NewProposer(nc *nats.Conn, prefix string, actor events.Actor) (*Remote, error) {
	if _, err := proposeSubject(prefix, actor); err != nil {
		return nil, err
	}
	return &Remote{nc: nc, prefix: prefix, only: &actor, patient: 10 * time.Second, began: time.Now()}, nil
}

// NewRelay returns a proposer like that of NewProposer for all the actors of a
// server, whose user may publish on all their subjects.
func NewRelay(nc *nats.Conn, prefix string) events.Offerer {
	return &Remote{nc: nc, prefix: prefix, patient: 10 * time.Second, began: time.Now()}
}

// Propose is events.Proposer's.
func (r *Remote) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	if r.only != nil && (p.Actor.Kind != r.only.Kind || p.Actor.Name != r.only.Name) {
		return events.Receipt{}, fmt.Errorf("%s cannot propose on behalf of %s", r.only, p.Actor)
	}
	if err := ctx.Err(); err != nil {
		return events.Receipt{}, err
	}
	subject, err := proposeSubject(r.prefix, p.Actor)
	if err != nil {
		return events.Receipt{}, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return events.Receipt{}, fmt.Errorf("the proposal cannot be encoded: %w", err)
	}
	return r.send(ctx, subject, body)
}

// Offer is events.Offerer's. What is offered is sent at once, and considered in any order.
func (r *Remote) Offer(ctx context.Context, p events.Proposal) (func() (events.Receipt, error), error) {
	var receipt events.Receipt
	var err error
	answered := make(chan struct{})
	go func() {
		receipt, err = r.Propose(ctx, p)
		close(answered)
	}()
	return func() (events.Receipt, error) {
		<-answered
		return receipt, err
	}, nil
}

// unsent says of a request that it was not sent; closed says whether the connection was
// closed before it. One that is closed since fails the requests that wait for an answer too.
func unsent(err error, closed bool) bool {
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrMaxPayload) || closed && errors.Is(err, nats.ErrConnectionClosed)
}

func (r *Remote) send(ctx context.Context, subject string, body []byte) (events.Receipt, error) {
	waiting, cancel := context.WithTimeout(ctx, r.patient)
	defer cancel()
	sent, closed := time.Since(r.began), r.nc.IsClosed()
	m, err := r.nc.RequestWithContext(waiting, subject, body)
	switch {
	case unsent(err, closed), errors.Is(err, nats.ErrNoResponders):
		return events.Receipt{}, fmt.Errorf("%w (%w)", events.ErrUnavailable, err)
	case err != nil:
		return events.Receipt{}, fmt.Errorf("the committer did not answer (%w): %w", err, events.ErrUncertain)
	}
	var a answer
	if err := quick.Unmarshal(m.Data, &a); err != nil {
		return events.Receipt{}, fmt.Errorf("the committer's answer cannot be read (%w): %w", err, events.ErrUncertain)
	}
	if a.Heard {
		r.note(sent)
	}
	return a.result()
}
