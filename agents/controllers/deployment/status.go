package deployment

import (
	"fmt"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	deploymentutil "k8s.io/kubernetes/pkg/controller/deployment/util"
)

// set gives the status a condition, unless it has one of that status and reason.
func (r *rollout) set(typ apps.DeploymentConditionType, status core.ConditionStatus, reason, message string) {
	c := r.condition(typ, status, reason, message)
	if last := deploymentutil.GetDeploymentCondition(r.Status, typ); last != nil && last.Status == status && last.Reason == reason {
		return
	}
	r.put(c)
}

// put gives the status a condition in the place where it had one of the type.
func (r *rollout) put(c apps.DeploymentCondition) {
	for i := range r.Status.Conditions {
		if last := &r.Status.Conditions[i]; last.Type == c.Type {
			if last.Status == c.Status {
				c.LastTransitionTime = last.LastTransitionTime
			}
			*last = c
			return
		}
	}
	r.Status.Conditions = append(r.Status.Conditions, c)
}

func (r *rollout) condition(typ apps.DeploymentConditionType, status core.ConditionStatus, reason, message string) apps.DeploymentCondition {
	now := metav1.NewTime(r.now)
	return apps.DeploymentCondition{Type: typ, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now}
}

// notePause stops the clock of the progress deadline while the rollout stands
// still by request, and starts it anew when it goes on.
func (r *rollout) notePause() {
	if !deploymentutil.HasProgressDeadline(r.Deployment) {
		return
	}
	c := deploymentutil.GetDeploymentCondition(r.Status, apps.DeploymentProgressing)
	if c != nil && c.Reason == deploymentutil.TimedOutReason {
		return
	}
	paused := c != nil && c.Reason == deploymentutil.PausedDeployReason
	switch {
	case r.Spec.Paused && !paused:
		r.set(apps.DeploymentProgressing, core.ConditionUnknown, deploymentutil.PausedDeployReason, "Deployment is paused")
	case !r.Spec.Paused && paused:
		r.set(apps.DeploymentProgressing, core.ConditionUnknown, deploymentutil.ResumedDeployReason, "Deployment is resumed")
	}
}

// count is the status by the ReplicaSets as they are and are now to be.
func (r *rollout) count() apps.DeploymentStatus {
	all := r.all()
	available := deploymentutil.GetAvailableReplicaCountForReplicaSets(all)
	saved := r.Status
	r.Status = apps.DeploymentStatus{
		ObservedGeneration:  r.Generation,
		Replicas:            deploymentutil.GetActualReplicaCountForReplicaSets(all),
		UpdatedReplicas:     deploymentutil.GetActualReplicaCountForReplicaSets([]*apps.ReplicaSet{r.current}),
		ReadyReplicas:       deploymentutil.GetReadyReplicaCountForReplicaSets(all),
		AvailableReplicas:   available,
		UnavailableReplicas: max(deploymentutil.GetReplicaCountForReplicaSets(all)-available, 0),
		TerminatingReplicas: deploymentutil.GetTerminatingReplicaCountForReplicaSets(all),
		CollisionCount:      saved.CollisionCount,
		Conditions:          append([]apps.DeploymentCondition(nil), saved.Conditions...),
	}
	if available >= *r.Spec.Replicas-deploymentutil.MaxUnavailable(*r.Deployment) {
		r.set(apps.DeploymentAvailable, core.ConditionTrue, deploymentutil.MinimumReplicasAvailable, "Deployment has minimum availability.")
	} else {
		r.set(apps.DeploymentAvailable, core.ConditionFalse, deploymentutil.MinimumReplicasUnavailable, "Deployment does not have minimum availability.")
	}
	counted := r.Status
	r.Status = saved
	return counted
}

// progress keeps the conditions that say how the rollout gets on, and sets the
// time at which to look whether it is stuck. before has the status of the last
// look.
func (r *rollout) progress(before *apps.Deployment) {
	r.noteFailure()
	if !deploymentutil.HasProgressDeadline(r.Deployment) {
		deploymentutil.RemoveDeploymentCondition(&r.Status, apps.DeploymentProgressing)
		return
	}
	last := deploymentutil.GetDeploymentCondition(r.Status, apps.DeploymentProgressing)
	if last != nil && last.Reason == deploymentutil.NewRSAvailableReason && r.Status.Replicas == r.Status.UpdatedReplicas {
		return // no rollout is on
	}
	switch who := r.subject(); {
	case deploymentutil.DeploymentComplete(r.Deployment, &r.Status):
		r.set(apps.DeploymentProgressing, core.ConditionTrue, deploymentutil.NewRSAvailableReason, who+" has successfully progressed.")
	case deploymentutil.DeploymentProgressing(before, &r.Status):
		// Unlike others, this one is renewed at each step, for its update time
		// is what the deadline counts from.
		r.put(r.condition(apps.DeploymentProgressing, core.ConditionTrue, deploymentutil.ReplicaSetUpdatedReason, who+" is progressing."))
		r.wakeAtDeadline()
	case r.wakeAtDeadline():
		r.set(apps.DeploymentProgressing, core.ConditionFalse, deploymentutil.TimedOutReason, who+" has timed out progressing.")
	}
}

// subject is who makes progress, as conditions say it.
func (r *rollout) subject() string {
	if r.current != nil {
		return fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	return fmt.Sprintf("Deployment %q", r.Name)
}

// wakeAtDeadline says whether the rollout is late, and asks to be woken when it
// will be.
func (r *rollout) wakeAtDeadline() (late bool) {
	c := deploymentutil.GetDeploymentCondition(r.Status, apps.DeploymentProgressing)
	if c == nil || c.Reason == deploymentutil.NewRSAvailableReason || c.Reason == deploymentutil.TimedOutReason {
		return false
	}
	deadline := c.LastUpdateTime.Add(time.Duration(*r.Spec.ProgressDeadlineSeconds) * time.Second)
	if !r.now.Before(deadline) {
		return true
	}
	r.result.Wake = deadline
	return false
}

// noteFailure repeats the failure that a ReplicaSet reports, the current one's
// first.
func (r *rollout) noteFailure() {
	for _, s := range append([]*apps.ReplicaSet{r.current}, r.old...) {
		if s == nil {
			continue
		}
		for _, c := range s.Status.Conditions {
			if c.Type == apps.ReplicaSetReplicaFailure {
				f := deploymentutil.ReplicaSetToDeploymentCondition(c)
				if last := deploymentutil.GetDeploymentCondition(r.Status, f.Type); last == nil || last.Status != f.Status || last.Reason != f.Reason {
					r.put(f)
				}
				return
			}
		}
	}
	deploymentutil.RemoveDeploymentCondition(&r.Status, apps.DeploymentReplicaFailure)
}
