package deployment

import (
	"sort"

	apps "k8s.io/api/apps/v1"
	"k8s.io/kubernetes/pkg/controller"
	deploymentutil "k8s.io/kubernetes/pkg/controller/deployment/util"

	"github.com/reprise-run/reprise/agents/controllers/objects"
)

// resized says whether the Deployment has been scaled since its ReplicaSets were
// given their sizes.
func (r *rollout) resized() bool {
	for _, s := range controller.FilterActiveReplicaSets(r.all()) {
		if desired, ok := deploymentutil.GetDesiredReplicasAnnotation(mute, s); ok && desired != *r.Spec.Replicas {
			return true
		}
	}
	return false
}

// resize gives a ReplicaSet its size, and notes of which total it is a part. It
// says whether the size has changed.
func (r *rollout) resize(s *apps.ReplicaSet, size int32) bool {
	changed := *s.Spec.Replicas != size
	*s.Spec.Replicas = size
	deploymentutil.SetReplicasAnnotations(s, *r.Spec.Replicas, *r.Spec.Replicas+deploymentutil.MaxSurge(*r.Deployment))
	return changed
}

// rescale spreads a changed number of replicas without moving the rollout on:
// each ReplicaSet keeps its share.
func (r *rollout) rescale() {
	if only := deploymentutil.FindActiveOrLatest(r.current, r.old); only != nil {
		// Also where its size is right already: as long as it is noted as a part of
		// another total, nothing but this is done. Upstream leaves it at that.
		r.resize(only, *r.Spec.Replicas)
		return
	}
	if deploymentutil.IsSaturated(r.Deployment, r.current) {
		for _, s := range controller.FilterActiveReplicaSets(r.old) {
			r.resize(s, 0)
		}
		return
	}
	if deploymentutil.IsRollingUpdate(r.Deployment) {
		r.rescaleInProportion()
	}
}

// rescaleInProportion shares out the difference between what may run and what
// does. The largest ReplicaSet takes what rounding leaves over.
func (r *rollout) rescaleInProportion() {
	active := controller.FilterActiveReplicaSets(r.all())
	if len(active) == 0 {
		return
	}
	var room int32
	if *r.Spec.Replicas > 0 {
		room = *r.Spec.Replicas + deploymentutil.MaxSurge(*r.Deployment)
	}
	missing := room - deploymentutil.GetReplicaCountForReplicaSets(active)
	if missing > 0 {
		sort.Sort(controller.ReplicaSetsBySizeNewer(active))
	} else {
		sort.Sort(controller.ReplicaSetsBySizeOlder(active))
	}
	sizes := make([]int32, len(active))
	var given int32
	for i, s := range active {
		share := deploymentutil.GetReplicaSetProportion(mute, s, *r.Deployment, missing, given)
		sizes[i] = *s.Spec.Replicas + share
		given += share
	}
	sizes[0] = max(sizes[0]+missing-given, 0)
	for i, s := range active {
		r.resize(s, sizes[i])
	}
}

// roll moves replicas from the old ReplicaSets to the current one: up as far as
// the surge allows, else down as far as availability does.
func (r *rollout) roll() {
	if r.current == nil {
		r.create()
		return
	}
	if r.rollUp() {
		return
	}
	r.rollDown()
}

func (r *rollout) rollUp() bool {
	have, want := *r.current.Spec.Replicas, *r.Spec.Replicas
	if have < want {
		size, err := deploymentutil.NewRSNewReplicas(r.Deployment, r.all(), r.current)
		if err != nil {
			return false // a strategy of a later version: leave it as it is
		}
		want = size
	}
	return have != want && r.resize(r.current, want)
}

// rollDown scales the old ReplicaSets down, the oldest first: their unavailable
// pods go in any case, the available ones as far as enough others are.
func (r *rollout) rollDown() {
	old := controller.FilterActiveReplicaSets(r.old)
	sort.Sort(controller.ReplicaSetsByCreationTimestamp(old))
	minimum := *r.Spec.Replicas - deploymentutil.MaxUnavailable(*r.Deployment)
	starting := *r.current.Spec.Replicas - available(r.current)
	spare := deploymentutil.GetReplicaCountForReplicaSets(r.all()) - minimum - starting
	if spare <= 0 {
		return
	}
	for _, s := range old {
		n := min(spare, *s.Spec.Replicas-available(s))
		if n > 0 {
			r.resize(s, *s.Spec.Replicas-n)
			spare -= n
		}
	}
	spare = available(r.current) - minimum
	for _, s := range old {
		spare += available(s)
	}
	for _, s := range old {
		if n := min(spare, *s.Spec.Replicas); n > 0 {
			r.resize(s, *s.Spec.Replicas-n)
			spare -= n
		}
	}
}

// available is how many available pods a ReplicaSet will keep. Its status may
// still count pods that it has been told to delete: upstream takes them for
// available, and can fall below the minimum in a fast rollout.
func available(s *apps.ReplicaSet) int32 {
	return min(s.Status.AvailableReplicas, *s.Spec.Replicas)
}

// recreate ends all old pods before it makes new ones.
func (r *rollout) recreate() {
	down := false
	for _, s := range controller.FilterActiveReplicaSets(r.old) {
		down = r.resize(s, 0) || down
	}
	switch {
	case down || r.oldPodsRun():
	case r.current == nil:
		r.create()
	case *r.current.Spec.Replicas != *r.Spec.Replicas:
		r.resize(r.current, *r.Spec.Replicas)
	}
}

// oldPodsRun says whether a pod of an old ReplicaSet may still run: terminating
// ones do.
func (r *rollout) oldPodsRun() bool {
	if deploymentutil.GetActualReplicaCountForReplicaSets(r.old) > 0 {
		return true
	}
	for _, s := range r.old {
		for e := range r.view.Owned(string(s.UID)) {
			if objects.IsPod(e.Ref) && !ended(e) {
				return true
			}
		}
	}
	return false
}
