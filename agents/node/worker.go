package node

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// worker looks after one pod. It has a goroutine while there is something to do or to
// wait for, to which all belongs that is not said to be others'.
type worker struct {
	a      *Agent
	uid    types.UID
	ref    events.Ref
	kicked chan struct{}

	// These are guarded by a.mu: whether it has a goroutine, whether it is to look for
	// another reason than a new version of the pod, and which version was heard of and
	// seen last.
	awake, pressed bool
	heard, seen    uint64

	// stale says that objects that the pod's volumes are made from have changed.
	stale atomic.Bool

	held     held
	cut      map[string]bool // the containers whose postStart hooks were cut short
	doing    map[string]context.CancelFunc
	failures map[string]plan.Failure
	pulled   map[string]bool
	images   map[string]image
	mounted  bool
	refresh  time.Time // when the volumes have to be brought up to date
	noticed  time.Time // when the pod's deletion was seen, until that is told
	silence  int       // how often in a row nobody heard what there was to tell
	results  chan result
}

// result is how an action went.
type result struct {
	action  plan.Action
	err     error
	refresh time.Time
}

func newWorker(a *Agent, uid types.UID, ref events.Ref) *worker {
	return &worker{a: a, uid: uid, ref: ref, kicked: make(chan struct{}, 1), results: make(chan result)}
}

// kick has the worker look, whatever it has seen. It is called with a.mu held.
func (w *worker) kick() {
	w.pressed = true
	w.wake()
}

// wake has the worker look, also if it rests. It is called with a.mu held.
func (w *worker) wake() {
	select {
	case w.kicked <- struct{}{}:
	default:
	}
	if !w.awake && w.a.wake != nil {
		w.awake = true
		w.a.wake(w)
	}
}

// calm takes back that the worker is to look. It is called with a.mu held.
func (w *worker) calm() {
	select {
	case <-w.kicked:
	default:
	}
}

// run looks after the pod until there is nothing to do and nothing to wait for but
// news, or nothing is left of it.
func (w *worker) run(ctx context.Context) {
	timer := w.a.o.Clock.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			w.drain()
			return
		case <-w.kicked:
		case <-timer.C():
		case r := <-w.results:
			w.finish(r)
		}
		w.collect()
		w.a.looks(w)
		wake, gone := w.step(ctx)
		if (gone || wake.IsZero() && len(w.doing) == 0) && w.a.rest(w, gone) {
			return
		}
		if !timer.Stop() {
			select {
			case <-timer.C():
			default:
			}
		}
		d := time.Hour
		if !wake.IsZero() {
			d = max(wake.Sub(w.a.o.Clock.Now()), time.Millisecond)
		}
		timer.Reset(d)
	}
}

// collect takes in what else has finished.
func (w *worker) collect() {
	for {
		select {
		case r := <-w.results:
			w.finish(r)
		default:
			return
		}
	}
}

// drain waits for what is under way, which the end of ctx cuts short.
func (w *worker) drain() {
	for len(w.doing) > 0 {
		w.finish(<-w.results)
	}
}

// entry returns the pod as the cluster has it, or nil.
func (w *worker) entry(view projections.Reader) *projections.Entry {
	if w.ref.Name == "" {
		return nil
	}
	e := view.Get(w.ref)
	if e == nil || e.UID != string(w.uid) || e.Node() != w.a.o.Name {
		return nil
	}
	return e
}

// pod is entry, and the pod decoded.
func (w *worker) pod(view projections.Reader) (*projections.Entry, *v1.Pod) {
	e := w.entry(view)
	if e == nil {
		return nil, nil
	}
	return e, projections.As[v1.Pod](e)
}

const (
	// lookAgain is when to look again after the runtime or the log did not
	// answer, and longSilence when if it has not for long.
	lookAgain   = time.Second
	longSilence = 10 * time.Second
)

// step observes the pod, tells what is new, plans and acts. It says when to do so
// again, and whether nothing is left of the pod.
func (w *worker) step(ctx context.Context) (wake time.Time, gone bool) {
	now := w.a.o.Clock.Now()
	entry, pod := w.pod(w.a.o.Projection.View())
	if pod != nil {
		w.a.saw(w, entry.Sequence)
	}
	p, err := w.observe(ctx, pod)
	if err != nil {
		if ctx.Err() == nil {
			w.a.log.Warn("the container runtime does not answer", "pod", w.ref, "error", err)
		}
		return now.Add(lookAgain), false
	}
	w.probe(ctx, &p)
	if pod != nil {
		told, err := w.tell(ctx, &p)
		p.Reported = told
		w.unheard(err)
		if !told {
			wake = now.Add(min(lookAgain<<w.silence, longSilence))
		}
	}
	// What changes while volumes are put in place may come too late for that: then
	// it stays to be done.
	prepare := plan.Action{Kind: plan.PrepareVolumes}
	stale := w.doing[prepare.Key()] == nil && w.stale.Swap(false)
	if stale {
		w.forgive()
	}
	if stale && w.mounted || !w.refresh.IsZero() && !now.Before(w.refresh) {
		w.refresh = time.Time{}
		w.do(ctx, prepare, p)
	}
	actions, next := plan.Plan(p, now)
	for _, a := range actions {
		w.do(ctx, a, p)
	}
	for _, at := range []time.Time{next, w.refresh, w.pause(now)} {
		if !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	gone = p.Desired == nil && len(p.Sandboxes) == 0 && !p.Kept && len(w.doing) == 0
	return wake, gone
}

// unheard takes note of whether anybody heard what there was to tell. It is said
// once, not at each try.
func (w *worker) unheard(err error) {
	if err == nil {
		w.silence = 0
		return
	}
	if w.silence == 0 && !errors.Is(err, context.Canceled) {
		w.a.log.Warn("cannot tell what became of the pod; trying again until it is heard", "pod", w.ref, "error", err)
	}
	w.silence = min(w.silence+1, 4)
}

// forgive has what failed for the lack of an object tried again at once.
func (w *worker) forgive() {
	for key, f := range w.failures {
		if f.Reason == reasonConfigError || key == string(plan.PrepareVolumes) {
			delete(w.failures, key)
		}
	}
}

// pause is when a failed pull changes from an error to waiting for the next try.
func (w *worker) pause(now time.Time) (at time.Time) {
	for _, f := range w.failures {
		if f.Reason == reasonErrImagePull && f.Count == 1 && f.At.Add(pullPause).After(now) {
			return f.At.Add(pullPause)
		}
	}
	return at
}

// pullPause is the time after which status shows ImagePullBackOff.
const pullPause = 2 * time.Second

// do starts an action, unless one of the same key is under way.
func (w *worker) do(ctx context.Context, action plan.Action, p plan.Pod) {
	key := action.Key()
	if _, busy := w.doing[key]; busy {
		return
	}
	if action.Kind == plan.KillContainer && w.hooked(action, p) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	put(&w.doing, key, cancel)
	t := &task{a: w.a, Action: action, pod: p.Desired, uid: w.uid, ref: w.ref, p: p, image: w.image(action)}
	w.a.crew.Go(func() {
		defer cancel()
		r := result{action: action}
		r.refresh, r.err = w.a.inSlot(ctx, action, t.run)
		if r.err == nil {
			r.err = t.postStart(ctx)
		}
		w.results <- r
	})
}

// hooked says that the container that is to be killed has its postStart hook now: no preStop
// hook runs beside that. If the pod ends, or its sandbox has, the hook is cut short, else it
// ends first; when it has, the plan says again what to kill.
func (w *worker) hooked(kill plan.Action, p plan.Pod) bool {
	c := p.Newest(kill.Container)
	leave := w.doing[plan.ContainerKey(kill.Container)]
	if c == nil || c.ID != kill.ID || !c.Starting || leave == nil {
		return false
	}
	if p.Desired == nil || p.Current() == nil || plan.Ending(p, w.a.o.Clock.Now()) != nil {
		put(&w.cut, c.ID, true)
		leave()
	}
	return true
}

// inSlot carries an action out when a slot is free.
func (a *Agent) inSlot(ctx context.Context, action plan.Action, run func(context.Context) (time.Time, error)) (refresh time.Time, err error) {
	// To end a container may take its whole grace period, and keeps the machine from
	// nothing.
	if action.Kind != plan.KillContainer {
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		case <-ctx.Done():
			return refresh, ctx.Err()
		}
	}
	return run(ctx)
}

// finish takes note of how an action went.
func (w *worker) finish(r result) {
	key := r.action.Key()
	if cancel := w.doing[key]; cancel != nil {
		cancel()
	}
	delete(w.doing, key)
	if errors.Is(r.err, context.Canceled) || grpcstatus.Code(r.err) == codes.Canceled {
		return
	}
	if !r.refresh.IsZero() {
		w.refresh = r.refresh
	}
	if r.action.Kind == plan.RunContainer {
		w.images = nil // The next attempt is to find what the name means then.
	}
	if r.err != nil {
		f, before := failure(r.action, r.err), w.failures[key]
		f.Count, f.At = before.Count+1, w.a.o.Clock.Now()
		put(&w.failures, key, f)
		if f.Message != before.Message {
			w.a.log.Info("a step of a pod failed", "pod", w.ref, "step", r.action.String(), "error", r.err)
		}
		return
	}
	delete(w.failures, key)
	switch r.action.Kind {
	case plan.PullImage:
		put(&w.pulled, key, true)
		delete(w.images, r.action.Image)
	case plan.PrepareVolumes:
		w.mounted = true
	case plan.Clean:
		w.mounted = false
	}
}

// put sets an element of a map that is made with its first: most pods at rest need
// none of them.
func put[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}
