package deployment

import (
	"context"
	"fmt"
	"sort"
	"strconv"

	"github.com/go-logr/logr"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/kubernetes/pkg/controller"
	deploymentutil "k8s.io/kubernetes/pkg/controller/deployment/util"
	labelsutil "k8s.io/kubernetes/pkg/util/labels"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// Upstream's functions want a logger, at times within a context. This one says
// nothing.
var (
	mute        = logr.Discard()
	muteContext = logr.NewContext(context.Background(), mute)
)

// historyLimit is how many characters of earlier revisions a ReplicaSet's
// annotation holds at most, as upstream has it.
const historyLimit = 2000

// revise gives the current ReplicaSet its revision and what else it has from
// the Deployment beside the template, and the Deployment its revision. It says
// whether the ReplicaSet has changed.
func (r *rollout) revise() bool {
	revision := strconv.FormatInt(deploymentutil.MaxRevision(mute, r.old)+1, 10)
	changed := deploymentutil.SetNewReplicaSetAnnotations(muteContext, r.Deployment, r.current, revision, true, historyLimit)
	if r.current.Spec.MinReadySeconds != r.Spec.MinReadySeconds {
		r.current.Spec.MinReadySeconds = r.Spec.MinReadySeconds
		changed = true
	}
	if changed || r.DeletionTimestamp != nil {
		return changed
	}
	fresh := deploymentutil.SetDeploymentRevision(r.Deployment, r.current.Annotations[deploymentutil.RevisionAnnotation])
	if !deploymentutil.HasProgressDeadline(r.Deployment) {
		return false
	}
	_, servedBefore := r.current.Annotations[deploymentutil.RevisionHistoryAnnotation]
	switch {
	case r.entries[string(r.current.UID)].Created < r.entry.Created:
		if deploymentutil.GetDeploymentCondition(r.Status, apps.DeploymentProgressing) == nil {
			r.set(apps.DeploymentProgressing, core.ConditionTrue, deploymentutil.FoundNewRSReason, fmt.Sprintf("Found new replica set %q", r.current.Name))
		}
	case fresh && !servedBefore:
		r.set(apps.DeploymentProgressing, core.ConditionTrue, deploymentutil.NewReplicaSetReason, fmt.Sprintf("Created new replica set %q", r.current.Name))
	}
	return false
}

// create commands the ReplicaSet for the Deployment's template, sized as the
// strategy allows by now.
func (r *rollout) create() {
	template := *r.Spec.Template.DeepCopy()
	hash := controller.ComputeHash(&template, r.Status.CollisionCount)
	template.Labels = labelsutil.CloneAndAddLabel(r.Spec.Template.Labels, apps.DefaultDeploymentUniqueLabelKey, hash)
	set := &apps.ReplicaSet{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"},
		ObjectMeta: metav1.ObjectMeta{
			Name:            nameWith(r.Name, hash),
			Namespace:       r.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r, controllerKind)},
			Labels:          template.Labels,
		},
		Spec: apps.ReplicaSetSpec{
			Replicas:        new(int32),
			MinReadySeconds: r.Spec.MinReadySeconds,
			Selector:        labelsutil.CloneSelectorAndAddLabel(r.Spec.Selector, apps.DefaultDeploymentUniqueLabelKey, hash),
			Template:        template,
		},
	}
	size, err := deploymentutil.NewRSNewReplicas(r.Deployment, append(r.all(), set), set)
	if err != nil {
		size = 0 // the API validates the strategy, so it is one of a later version
	}
	*set.Spec.Replicas = size
	revision := strconv.FormatInt(deploymentutil.MaxRevision(mute, r.old)+1, 10)
	deploymentutil.SetNewReplicaSetAnnotations(muteContext, r.Deployment, set, revision, false, historyLimit)

	ref := objects.ReplicaSet(r.Namespace, set.Name)
	if r.view.Get(ref) != nil {
		r.collide()
		return
	}
	r.creating = true
	r.result.Commands = append(r.result.Commands, runner.Creation(ref, set, r.item.Because))
	if r.item.Failure != "" && deploymentutil.HasProgressDeadline(r.Deployment) {
		r.set(apps.DeploymentProgressing, core.ConditionFalse, deploymentutil.FailedRSCreateReason, fmt.Sprintf("Failed to create new replica set %q: %s", set.Name, r.item.Failure))
	}
}

// collide makes the next hash another one, for a ReplicaSet that is not of this
// template bears the name.
func (r *rollout) collide() {
	n := int32(1)
	if r.Status.CollisionCount != nil {
		n += *r.Status.CollisionCount
	}
	r.Status.CollisionCount = &n
}

// nameWith appends a hash to a name, which is cut if there is no room.
func nameWith(name, hash string) string {
	room := validation.DNS1123SubdomainMaxLength - len(hash) - 1
	return name[:min(len(name), room)] + "-" + hash
}

// prune deletes the oldest of the old ReplicaSets beyond the history limit.
func (r *rollout) prune() {
	if !deploymentutil.HasRevisionHistoryLimit(r.Deployment) {
		return
	}
	var alive []*apps.ReplicaSet
	for _, s := range r.old {
		if s.DeletionTimestamp == nil {
			alive = append(alive, s)
		}
	}
	sort.Sort(deploymentutil.ReplicaSetsByRevision(alive))
	for _, s := range alive[:max(len(alive)-int(*r.Spec.RevisionHistoryLimit), 0)] {
		if s.Status.Replicas != 0 || *s.Spec.Replicas != 0 || s.Generation > s.Status.ObservedGeneration {
			continue // it still has pods, or is about to
		}
		r.result.Commands = append(r.result.Commands, runner.Command{
			Verb:    runner.Delete,
			Object:  events.Ref{Group: "apps", Resource: "replicasets", Namespace: s.Namespace, Name: s.Name},
			Because: r.item.Because,
			UID:     string(s.UID),
		})
	}
}
