package deployment

import (
	"reflect"
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	deploymentutil "k8s.io/kubernetes/pkg/controller/deployment/util"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

var controllerKind = apps.SchemeGroupVersion.WithKind("Deployment")

// rollout is one look at a Deployment. The decision is worked out on copies;
// what differs from the originals in the end is what is decided.
type rollout struct {
	*apps.Deployment // a copy
	// current runs the Deployment's template, nil if there is none yet; old are
	// the others. They are copies.
	current *apps.ReplicaSet
	old     []*apps.ReplicaSet

	view    runner.View
	item    runner.Item
	now     time.Time
	entry   *projections.Entry
	entries map[string]*projections.Entry // of the ReplicaSets, by UID
	result  runner.Result
	// creating says that result has the command that creates current.
	creating bool
}

func look(v runner.View, e *projections.Entry, item runner.Item, now time.Time) *rollout {
	r := &rollout{
		Deployment: projections.As[apps.Deployment](e).DeepCopy(),
		view:       v, item: item, now: now, entry: e,
		entries: map[string]*projections.Entry{},
	}
	selector := objects.Selector(r.Deployment.Spec.Selector)
	var sets []*apps.ReplicaSet
	for s := range v.Owned(e.UID) {
		switch {
		case !objects.IsReplicaSet(s.Ref) || !metav1.IsControlledBy(s.Meta(), r):
		case selector.Matches(labels.Set(s.Meta().Labels)):
			sets = append(sets, projections.As[apps.ReplicaSet](s).DeepCopy())
			r.entries[s.UID] = s
		case r.DeletionTimestamp == nil:
			r.result.Decisions = append(r.result.Decisions, release(s, e.UID, item.Because))
		}
	}
	r.current = deploymentutil.FindNewReplicaSet(r.Deployment, sets)
	r.old = slices.DeleteFunc(sets, func(s *apps.ReplicaSet) bool { return s == r.current })
	return r
}

// all returns the ReplicaSets, the current one last, as upstream's functions
// expect it: nil if there is none.
func (r *rollout) all() []*apps.ReplicaSet {
	return append(r.old[:len(r.old):len(r.old)], r.current)
}

// decide works out one step.
func (r *rollout) decide() runner.Result {
	if r.current != nil && r.revise() {
		return r.settle() // sizes follow when this is done
	}
	switch {
	case r.DeletionTimestamp != nil:
		r.Status = r.count()
	case r.Spec.Paused || r.resized():
		r.notePause()
		r.rescale()
		r.Status = r.count()
		if r.Spec.Paused {
			r.prune()
		}
	case r.Spec.Strategy.Type == apps.RecreateDeploymentStrategyType:
		r.notePause()
		r.recreate()
		r.finish()
	default:
		r.notePause()
		r.roll()
		r.finish()
	}
	return r.settle()
}

// finish reports the rollout's progress, and tidies up once it is complete.
func (r *rollout) finish() {
	before := r.Deployment.DeepCopy()
	r.Status = r.count()
	r.progress(before)
	if deploymentutil.DeploymentComplete(r.Deployment, &r.Status) {
		r.prune()
	}
}

// settle turns what has changed into one decision.
func (r *rollout) settle() runner.Result {
	if r.creating && r.item.Failure == "" {
		return r.result // the ReplicaSet to come will tell
	}
	all := events.Decision{
		Because: r.item.Because,
		Expect:  []events.Expectation{{Object: r.entry.Ref, Sequence: r.entry.Sequence}},
	}
	for s := range r.view.Owned(r.entry.UID) { // for the order of names
		for _, after := range r.all() {
			if after != nil && string(after.UID) == s.UID {
				r.settleReplicaSet(&all, s, after)
			}
		}
	}
	if d, changed := r.settleDeployment(); changed {
		all.Changes = append(all.Changes, d.Changes...)
	}
	if len(all.Changes) > 0 {
		r.result.Decisions = append(r.result.Decisions, all)
	}
	return r.result
}

func (r *rollout) settleDeployment() (events.Decision, bool) {
	before := projections.As[apps.Deployment](r.entry)
	fact := observed
	switch {
	case before.Annotations[deploymentutil.RevisionAnnotation] != r.Annotations[deploymentutil.RevisionAnnotation]:
		return runner.Update(r.entry, "deployment.revised", r.Deployment, r.item.Because)
	case reflect.DeepEqual(before.Status, r.Status):
		return events.Decision{}, false
	case !reflect.DeepEqual(before.Status.CollisionCount, r.Status.CollisionCount):
		fact = "deployment.collided"
	}
	return runner.UpdatePart(r.entry, fact, "/status", before.Status, r.Status, r.item.Because)
}

func (r *rollout) settleReplicaSet(all *events.Decision, e *projections.Entry, after *apps.ReplicaSet) {
	before := projections.As[apps.ReplicaSet](e)
	if reflect.DeepEqual(before, after) {
		return
	}
	fact := "replicaset.revised"
	if *before.Spec.Replicas != *after.Spec.Replicas {
		fact = "replicaset.scaled"
	}
	if *before.Spec.Replicas != *after.Spec.Replicas || before.Spec.MinReadySeconds != after.Spec.MinReadySeconds {
		after.Generation++
	}
	if d, changed := runner.Update(e, fact, after, r.item.Because); changed {
		all.Changes = append(all.Changes, d.Changes...)
		all.Expect = append(all.Expect, d.Expect...)
	}
}
