package node

import (
	"context"
	"errors"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/agents/node/status"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// tries is how often in a row the agent decides again what to tell when others
// change the pod at the same time.
const tries = 5

// tell proposes what is new about the pod, and says whether the cluster then
// knows all there is to tell. It leaves the pod as the cluster then has it in p.
func (w *worker) tell(ctx context.Context, p *plan.Pod) (bool, error) {
	told := uint64(0) // the version of the pod that says all there is to tell
	for range tries {
		view := w.a.o.Projection.View()
		entry := w.entry(view)
		if entry == nil {
			p.Desired = nil
			return false, nil
		}
		if entry.Sequence == told {
			return true, nil
		}
		pod := projections.As[v1.Pod](entry)
		p.Desired = pod
		now := w.a.o.Clock.Now()
		if pod.DeletionTimestamp != nil && len(p.Sandboxes) == 0 && len(p.Containers) == 0 {
			return true, nil // Nothing of it ever was here, or all has been told.
		}
		if w.unbegun(p, now) {
			return false, nil
		}
		steps := status.Steps(*p, status.Compute(*p, w.a.o.Addresses, now))
		if len(steps) == 0 || w.early(p, steps, now) || w.ending(p, steps, now) {
			return len(steps) == 0, nil
		}
		decision, err := status.Decide(entry, pod.Status, steps)
		if err != nil || len(decision.Changes) == 0 {
			return err == nil, err
		}
		receipt, err := w.a.o.Proposer.Propose(ctx, events.Proposal{Decision: decision, Actor: w.a.actor, Basis: view.Sequence(), Now: now})
		var conflict *events.ConflictError
		switch {
		case err == nil:
			clear(p.Untold)
			told = receipt.Last
			p.Desired = reported(pod, steps)
			w.a.saw(w, told)
			err = w.a.o.Projection.Wait(ctx, receipt.Last)
		case errors.As(err, &conflict) && conflict.Actual > 0:
			err = w.a.o.Projection.Wait(ctx, conflict.Actual)
		case errors.As(err, &conflict):
			return false, nil // It is gone; the change that says so is coming.
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// reported is a pod after facts about it, as it comes from the log.
func reported(pod *v1.Pod, facts []status.Step) *v1.Pod {
	out := *pod
	out.Status = facts[len(facts)-1].Status
	return &out
}

// settling is for how long it is not told by itself that a pod has a sandbox: most
// containers start sooner, and then both are told in one decision.
const settling = 500 * time.Millisecond

// unbegun says that early is going to say so, and sooner: containers that the runtime does
// not have wait for nothing that is to be told if nothing has failed and all images are there.
func (w *worker) unbegun(p *plan.Pod, now time.Time) bool {
	if p.Desired.Status.StartTime != nil || p.Desired.DeletionTimestamp != nil || len(w.failures) > 0 || len(p.Containers) > 0 {
		return false
	}
	for _, have := range p.Images {
		if !have {
			return false
		}
	}
	s := p.Current()
	return s == nil || now.Before(s.Created.Add(settling))
}

// early says that the pod has only just come and nothing has gone wrong: what is
// to tell is told with its first container.
func (w *worker) early(p *plan.Pod, steps []status.Step, now time.Time) bool {
	if p.Desired.Status.StartTime != nil || p.Desired.DeletionTimestamp != nil || len(w.failures) > 0 || len(steps) != 1 {
		return false
	}
	switch steps[0].Type {
	case "pod.observed":
		return len(p.Containers) == 0
	case "pod.sandboxed":
		s := p.Current()
		return s != nil && now.Before(s.Created.Add(settling))
	}
	return false
}

// ending says that all there is to tell is that the node has seen that the pod is to
// end, and has seen it only just now. Most containers end soon, and then their end
// tells that too.
func (w *worker) ending(p *plan.Pod, steps []status.Step, now time.Time) bool {
	if p.Desired.DeletionTimestamp == nil || !runs(p) || !status.OnlySeen(p.Desired.Status, steps) {
		w.noticed = time.Time{}
		return false
	}
	if w.noticed.IsZero() {
		w.noticed = now
	}
	return now.Before(w.noticed.Add(settling))
}

func runs(p *plan.Pod) bool {
	return slices.ContainsFunc(p.Containers, func(c plan.Container) bool { return c.State == plan.Running })
}

// remove tells the cluster that nothing is left of a pod that it has deleted.
func (a *Agent) remove(ctx context.Context, e *projections.Entry, view projections.Reader) error {
	pod := projections.As[v1.Pod](e)
	if pod.DeletionTimestamp == nil || len(pod.Finalizers) > 0 {
		return nil
	}
	receipt, err := a.o.Proposer.Propose(ctx, events.Proposal{
		Decision: status.Removal(e), Actor: a.actor, Basis: view.Sequence(), Now: a.o.Clock.Now(),
	})
	if err == nil {
		return a.o.Projection.Wait(ctx, receipt.Last)
	}
	var conflict *events.ConflictError
	if errors.As(err, &conflict) {
		if conflict.Actual == 0 {
			// It is gone. Until the node has heard of that, its plan would be the same
			// again, and be proposed again as fast as it is turned down.
			return a.o.Projection.Wait(ctx, view.Sequence()+1)
		}
		// It has changed meanwhile: the plan is made anew on what it is now.
		return a.o.Projection.Wait(ctx, conflict.Actual)
	}
	return err
}
