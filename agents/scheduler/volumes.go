package scheduler

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// volumesOf returns the persistent volumes that a pod's claims are bound to, or
// what is wrong with the claims, in kube-scheduler's words. While nobody binds
// claims to volumes when a pod comes for them, a claim that waits for a node
// waits for ever, and so does its pod.
func (b *batch) volumesOf(p *v1.Pod) (volumes []*projections.Entry, trouble string) {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		name := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			name = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			name = p.Name + "-" + v.Name
		default:
			continue
		}
		e := b.view.Get(events.Ref{Resource: "persistentvolumeclaims", Namespace: p.Namespace, Name: name})
		switch {
		case e == nil && v.Ephemeral != nil:
			return nil, fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
		case e == nil:
			return nil, fmt.Sprintf("persistentvolumeclaim %q not found", name)
		case e.Meta().DeletionTimestamp != nil:
			return nil, fmt.Sprintf("persistentvolumeclaim %q is being deleted", name)
		}
		claim := projections.As[v1.PersistentVolumeClaim](e)
		if claim.Spec.VolumeName == "" || claim.Status.Phase != v1.ClaimBound {
			return nil, b.whyUnbound(claim)
		}
		pv := b.view.Get(events.Ref{Resource: "persistentvolumes", Name: claim.Spec.VolumeName})
		if pv == nil {
			return nil, fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
		}
		volumes = append(volumes, pv)
	}
	return volumes, ""
}

func (b *batch) whyUnbound(claim *v1.PersistentVolumeClaim) string {
	if claim.Status.Phase == v1.ClaimLost {
		return fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", claim.Name, claim.Spec.VolumeName)
	}
	class := volume.GetPersistentVolumeClaimClass(claim)
	if e := b.view.Get(events.Ref{Group: storagev1.GroupName, Resource: "storageclasses", Name: class}); e != nil {
		mode := projections.As[storagev1.StorageClass](e).VolumeBindingMode
		if mode != nil && *mode == storagev1.VolumeBindingWaitForFirstConsumer {
			return fmt.Sprintf("persistentvolumeclaim %q waits for a volume", claim.Name)
		}
	}
	return "pod has unbound immediate PersistentVolumeClaims"
}

// isInReach says whether a node can use all of the volumes.
func isInReach(node *v1.Node, volumes []*projections.Entry) bool {
	for _, e := range volumes {
		if volume.CheckNodeAffinity(projections.As[v1.PersistentVolume](e), node.Labels) != nil {
			return false
		}
	}
	return true
}
