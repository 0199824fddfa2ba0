package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// proposer is a way to the committer, from a host.
type proposer struct {
	w    *world
	from *host
	near *server // on the same host, or nil
}

var _ events.Offerer = proposer{}

// question is a proposal on its way, and what is heard of it.
type question struct {
	id       uint64
	proposal events.Proposal
	by       *process
	heard    *answer
	done     bell
	certain  bool     // it was answered by yes or no
	owners   []string // of the pods that it creates, by uid
}

type answer struct {
	receipt events.Receipt
	err     error
}

// hear takes the first answer that comes in time.
func (q *question) hear(r events.Receipt, err error) {
	if q.heard == nil && !q.done.rung {
		q.heard = &answer{r, err}
		q.done.ring()
	}
}

// open notes a proposal of the process that runs, and marks what it leads to.
func (w *world) open(p events.Proposal) *question {
	w.proposals++
	p.Audit = mark(w.proposals)
	q := &question{id: w.proposals, proposal: p, by: w.inside, owners: owners(p)}
	for _, o := range q.owners {
		w.referee.open[o]++
	}
	q.by.asked = append(q.by.asked, q)
	return q
}

// close notes that nobody waits for an answer any more, be it that the one who asked
// ended in the middle.
func (w *world) close(q *question) {
	q.by.asked = slices.DeleteFunc(q.by.asked, func(o *question) bool { return o == q })
	for _, o := range q.owners {
		w.referee.open[o]--
		if !q.certain {
			w.referee.doubts[o]++
		}
	}
}

// mark is what the events of a proposal bear.
func mark(id uint64) string { return strconv.FormatUint(id, 10) }

// owners are those of the pods that a proposal creates, once for each.
func owners(p events.Proposal) (uids []string) {
	for i := range p.Changes {
		if p.Changes[i].Type != "pod.created" {
			continue
		}
		var list []metav1.OwnerReference
		if json.Unmarshal(events.Lookup(p.Changes[i].Data, "metadata", "ownerReferences"), &list) == nil && len(list) > 0 {
			uids = append(uids, string(list[0].UID))
		}
	}
	return uids
}

// Propose implements events.Proposer.
func (x proposer) Propose(ctx context.Context, p events.Proposal) (events.Receipt, error) {
	answer, err := x.Offer(ctx, p)
	if err != nil {
		return events.Receipt{}, err
	}
	return answer()
}

// Offer implements events.Offerer.
func (x proposer) Offer(ctx context.Context, p events.Proposal) (func() (events.Receipt, error), error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", events.ErrUnavailable, err)
	}
	w := x.w
	q := w.open(p)
	p = q.proposal
	if x.near != nil && x.near.term != nil {
		w.sleep(w.between(5*time.Microsecond, 50*time.Microsecond))
		x.near.offer(p, q.hear)
		return func() (events.Receipt, error) { return x.await(q) }, nil
	}
	var to *server
	for _, s := range w.servers {
		if s.up && s.term != nil && s.cut <= w.now {
			to = s
		}
	}
	if to == nil {
		w.sleep(w.between(time.Millisecond, 20*time.Millisecond))
		q.certain = true
		w.close(q)
		w.referee.denied(q.id)
		return nil, fmt.Errorf("nobody listens: %w", events.ErrUnavailable)
	}
	x.from.send(&to.host, func() {
		to.offer(p, func(r events.Receipt, err error) {
			to.send(x.from, func() { q.hear(r, err) })
		})
	})
	x.from.after(10*time.Second, q.done.ring)
	return func() (events.Receipt, error) { return x.await(q) }, nil
}

// await waits for the answer.
func (x proposer) await(q *question) (events.Receipt, error) {
	w := x.w
	w.await(&q.done)
	q.certain = q.heard != nil && !errors.Is(q.heard.err, events.ErrUncertain)
	w.close(q)
	if q.heard == nil {
		return events.Receipt{}, fmt.Errorf("the committer did not answer: %w", events.ErrUncertain)
	}
	switch {
	case q.heard.err == nil:
		w.referee.acknowledged(q.id, q.proposal, q.heard.receipt)
	case q.certain:
		w.referee.denied(q.id)
		w.referee.conflict(q.id, q.proposal.Basis, conflictOf(q.heard.err))
	}
	return q.heard.receipt, q.heard.err
}
