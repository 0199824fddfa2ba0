package nodelifecycle

import (
	"time"

	"github.com/go-logr/logr"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// evict deletes a pod that tolerates the taints of its node no longer: first it
// says so in a condition, then it commands the deletion.
func evict(v runner.View, e *projections.Entry, because uint64, now time.Time) runner.Result {
	pod := projections.As[core.Pod](e)
	node := v.Get(objects.Node(pod.Spec.NodeName))
	if node == nil || pod.DeletionTimestamp != nil || pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed {
		return runner.Result{}
	}
	until, limited := tolerates(pod, driving(projections.As[core.Node](node)))
	switch {
	case !limited:
		return runner.Result{}
	case now.Before(until):
		return runner.Result{Wake: until}
	}
	after := pod.Status.DeepCopy()
	if !disrupted(after) {
		after.Conditions = append(after.Conditions, core.PodCondition{
			Type: core.DisruptionTarget, Status: core.ConditionTrue, LastTransitionTime: metav1.NewTime(now),
			ObservedGeneration: pod.Generation,
			Reason:             "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
		})
		d, _ := runner.UpdatePart(e, "pod.disrupted", "/status", pod.Status, *after, because)
		return runner.Result{Decisions: []events.Decision{d}}
	}
	return runner.Result{Commands: []runner.Command{{Verb: runner.Delete, Object: e.Ref, UID: e.UID, Because: because}}}
}

func disrupted(s *core.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == core.DisruptionTarget && c.Status == core.ConditionTrue {
			return true
		}
	}
	return false
}

// tolerates says until when a pod tolerates the taints, and false if it does so
// for ever. A toleration counts from when its taint was put on.
func tolerates(pod *core.Pod, taints []core.Taint) (until time.Time, limited bool) {
	for i := range taints {
		t := &taints[i]
		end, ends := tolerated(pod, t)
		if ends && (!limited || end.Before(until)) {
			until, limited = end, true
		}
	}
	return until, limited
}

// tolerated is tolerates for one taint: the first toleration that matches
// counts.
func tolerated(pod *core.Pod, t *core.Taint) (until time.Time, limited bool) {
	for i := range pod.Spec.Tolerations {
		o := &pod.Spec.Tolerations[i]
		if !o.ToleratesTaint(logr.Discard(), t, true) {
			continue
		}
		if o.TolerationSeconds == nil {
			return time.Time{}, false
		}
		if t.TimeAdded == nil {
			// Its time will be put on the taint at once, and that comes back here.
			return time.Time{}, false
		}
		return t.TimeAdded.Add(time.Duration(max(*o.TolerationSeconds, 0)) * time.Second), true
	}
	return time.Time{}, true
}
