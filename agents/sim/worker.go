package sim

import (
	"errors"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/agents/node/status"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// worker looks after one pod, in the way of the agent's: look, tell, plan, act.
type worker struct {
	node     *node
	uid      string
	ref      events.Ref
	dirty    bool
	bell     *bell
	doing    map[string]bool
	failures map[string]plan.Failure
	pulled   map[string]bool
	mounted  bool
	silence  int
}

// podView is what the worker sees of its pod.
type podView struct{ plan.Pod }

func newWorker(n *node, uid string, ref events.Ref) *worker {
	return &worker{node: n, uid: uid, ref: ref, doing: map[string]bool{}, failures: map[string]plan.Failure{}, pulled: map[string]bool{}}
}

func (k *worker) kick() {
	k.dirty = true
	if k.bell != nil {
		k.bell.ring()
	}
}

// run looks after the pod until nothing is left of it.
func (k *worker) run() {
	for {
		k.dirty = false
		wake, gone := k.step()
		switch {
		case k.dirty:
			continue
		case gone:
			delete(k.node.workers, k.uid)
			return
		}
		b := &bell{}
		k.bell = b
		if !wake.IsZero() {
			k.node.after(max(wake.Sub(k.node.w.time()), time.Millisecond), b.ring)
		}
		k.node.w.await(b)
	}
}

// pod is the pod as the cluster has it, or nil.
func (k *worker) pod() (*projections.Entry, *core.Pod) {
	e := k.node.view.Get(k.ref)
	if e == nil || e.UID != k.uid {
		return nil, nil
	}
	pod := projections.As[core.Pod](e)
	if pod.Spec.NodeName != k.node.name {
		return nil, nil
	}
	return e, pod
}

func (k *worker) step() (wake time.Time, gone bool) {
	w := k.node.w
	now := w.time()
	p := k.observe()
	if p.Desired != nil {
		told, heard := k.tell(&p)
		p.Reported = told
		if heard {
			k.silence = 0
		} else {
			k.silence = min(k.silence+1, 4)
		}
		if !told {
			wake = now.Add(min(time.Second<<k.silence, 10*time.Second))
		}
	}
	actions, next := plan.Plan(p.Pod, w.time())
	for _, a := range actions {
		k.do(a)
	}
	if !next.IsZero() && (wake.IsZero() || next.Before(wake)) {
		wake = next
	}
	return wake, p.Desired == nil && len(p.Sandboxes) == 0 && !p.Kept && len(k.doing) == 0
}

// observe asks the runtime what it has of the pod.
func (k *worker) observe() podView {
	m := k.node.machine
	p := podView{plan.Pod{Mounted: k.mounted, Pulled: k.pulled, Failures: k.failures,
		Images: map[string]bool{}, Probes: map[string]plan.Probe{}, Untold: map[string]bool{}}}
	_, p.Desired = k.pod()
	if r := m.pods[k.uid]; r != nil {
		p.Sandboxes = append(p.Sandboxes, r.sandboxes...)
		p.Containers = append(p.Containers, r.containers...)
		p.Kept = r.kept
	}
	for i := range p.Containers {
		if c := &p.Containers[i]; c.State == plan.Running {
			p.Probes[c.ID] = plan.Probe{Started: true, Ready: true}
		} else if p.Desired != nil && c.State == plan.Exited && !status.Told(&p.Desired.Status, c) {
			p.Untold[c.ID] = true
		}
	}
	if p.Desired != nil {
		for i := range p.Desired.Spec.Containers {
			image := p.Desired.Spec.Containers[i].Image
			p.Images[image] = m.images[image]
		}
	}
	return p
}

// do starts an action, unless one of the same key is under way.
func (k *worker) do(a plan.Action) {
	key := a.Key()
	if k.doing[key] {
		return
	}
	k.doing[key] = true
	n := k.node
	if a.Kind == plan.RemovePod {
		n.run(0, func() { k.finish(a, k.removePod()) })
		return
	}
	m := n.machine
	least, most := m.duration(a)
	m.after(n.w.between(least, most), func() {
		err := m.act(k.uid, k.ref, a)
		n.after(n.w.between(0, time.Millisecond), func() { k.finish(a, err) })
	})
}

// finish takes note of how an action went.
func (k *worker) finish(a plan.Action, err error) {
	key := a.Key()
	delete(k.doing, key)
	switch {
	case err != nil:
		f := plan.Failure{Count: k.failures[key].Count + 1, At: k.node.w.time(), Message: err.Error()}
		switch a.Kind {
		case plan.PullImage:
			f.Reason = "ErrImagePull"
		case plan.RunContainer, plan.StartContainer:
			f.Reason = "RunContainerError"
		}
		k.failures[key] = f
	default:
		delete(k.failures, key)
		switch a.Kind {
		case plan.PullImage:
			k.pulled[key] = true
		case plan.PrepareVolumes:
			k.mounted = true
		case plan.Clean:
			k.mounted = false
		}
	}
	k.kick()
}

// removePod tells the cluster that nothing is left of the pod.
func (k *worker) removePod() error {
	n := k.node
	e, pod := k.pod()
	if pod == nil || pod.DeletionTimestamp == nil || len(pod.Finalizers) > 0 {
		return nil
	}
	receipt, err := n.propose(status.Removal(e), n.view.Sequence(), n.w.time())
	at := receipt.Last
	if conflict := conflictOf(err); conflict != nil {
		at, err = conflict.Actual, nil
		if at == 0 {
			at = n.view.Sequence() + 1
		}
	}
	if err == nil {
		n.reach(at)
	}
	return err
}

func conflictOf(err error) *events.ConflictError {
	var conflict *events.ConflictError
	errors.As(err, &conflict)
	return conflict
}

// again reports what was reported already: a bug that a test puts in.
func (k *worker) again(ref events.Ref, steps []status.Step) {
	k.node.w.sleep(50 * time.Millisecond)
	e := k.node.view.Get(ref)
	if e == nil {
		return
	}
	for _, s := range steps {
		if s.Type == "container.exited" {
			op := events.Op{Op: "add", Path: "/status/message", Value: []byte(`"again"`)}
			d := events.Decision{Because: e.Sequence, Changes: []events.Change{{
				Type: s.Type, Object: ref, UID: e.UID, Note: s.Note, Data: events.AppendPatch(nil, []events.Op{op}),
			}}}
			_, _ = k.node.propose(d, k.node.view.Sequence(), k.node.w.time()) // it is a bug
			return
		}
	}
}
