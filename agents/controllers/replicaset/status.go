package replicaset

import (
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/kubernetes/pkg/controller/replicaset"
)

// status is what the ReplicaSet is to report, and when the next pod will have
// been ready for long enough.
func (s *set) status(now time.Time) (apps.ReplicaSetStatus, time.Time) {
	status := *s.Status.DeepCopy()
	template := labels.Set(s.Spec.Template.Labels).AsSelectorPreValidated()
	terminating := int32(len(s.terminating))
	status.Replicas = int32(len(s.active))
	status.FullyLabeledReplicas, status.ReadyReplicas, status.AvailableReplicas = 0, 0, 0
	status.TerminatingReplicas = &terminating
	status.ObservedGeneration = s.Generation
	var wake time.Time
	for _, pod := range s.active {
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		if !podutil.IsPodReady(pod) {
			continue
		}
		status.ReadyReplicas++
		if podutil.IsPodAvailable(pod, s.Spec.MinReadySeconds, metav1.NewTime(now)) {
			status.AvailableReplicas++
			continue
		}
		since := podutil.GetPodReadyCondition(pod.Status).LastTransitionTime
		if at := since.Add(time.Duration(s.Spec.MinReadySeconds) * time.Second); wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	s.reportFailure(&status, now)
	return status, wake
}

// reportFailure keeps the condition that says that the gate refuses pods.
func (s *set) reportFailure(status *apps.ReplicaSetStatus, now time.Time) {
	if s.item.Failure == "" {
		replicaset.RemoveCondition(status, apps.ReplicaSetReplicaFailure)
		return
	}
	reason := "FailedCreate"
	if s.Spec.Replicas != nil && len(s.active) > int(*s.Spec.Replicas) {
		reason = "FailedDelete"
	}
	replicaset.SetCondition(status, apps.ReplicaSetCondition{
		Type:               apps.ReplicaSetReplicaFailure,
		Status:             core.ConditionTrue,
		LastTransitionTime: metav1.NewTime(now),
		Reason:             reason,
		Message:            s.item.Failure,
	})
}
