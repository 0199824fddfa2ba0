package feed

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// roots is what a node may know whatever runs on it, but for its pods. As
// everywhere in this package, a Ref without a name stands for all objects of its
// resource in its namespace, and without a namespace too for all there are.
func roots(node string, network bool) []events.Ref {
	out := []events.Ref{{Resource: "nodes", Name: node}}
	if network {
		out = append(out, events.Ref{Resource: "services"}, events.Ref{Group: "discovery.k8s.io", Resource: "endpointslices"})
	}
	return out
}

// Needs returns what a node that knows an object may know because of it: what the
// pods that are bound to it refer to, and what that refers to in turn. It is what
// the API's Node authorizer would let a kubelet read.
func Needs(e *projections.Entry) []events.Ref {
	if e == nil || e.Ref.Group != "" {
		return nil
	}
	switch e.Ref.Resource {
	case "pods":
		return podNeeds(projections.As[v1.Pod](e))
	case "persistentvolumeclaims":
		if name := projections.As[v1.PersistentVolumeClaim](e).Spec.VolumeName; name != "" {
			return []events.Ref{{Resource: "persistentvolumes", Name: name}}
		}
	case "persistentvolumes":
		return volumeNeeds(projections.As[v1.PersistentVolume](e))
	}
	return nil
}

func podNeeds(pod *v1.Pod) []events.Ref {
	refs := make([]events.Ref, 0, 8)
	add := func(r events.Ref) {
		if !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	in := func(resource, name string) {
		if name != "" {
			add(events.Ref{Resource: resource, Namespace: pod.Namespace, Name: name})
		}
	}
	add(events.Ref{Resource: "namespaces", Name: pod.Namespace})
	// For the environment variables of services, and that of the API.
	add(events.Ref{Resource: "services", Namespace: pod.Namespace})
	add(events.Ref{Resource: "services", Namespace: "default", Name: "kubernetes"})
	in("serviceaccounts", pod.Spec.ServiceAccountName)
	podutil.VisitPodSecretNames(pod, func(name string) bool { in("secrets", name); return true })
	podutil.VisitPodConfigmapNames(pod, func(name string) bool { in("configmaps", name); return true })
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			in("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			in("persistentvolumeclaims", pod.Name+"-"+v.Name)
		}
	}
	if class := pod.Spec.RuntimeClassName; class != nil {
		add(events.Ref{Group: "node.k8s.io", Resource: "runtimeclasses", Name: *class})
	}
	return refs
}

func volumeNeeds(pv *v1.PersistentVolume) []events.Ref {
	csi := pv.Spec.CSI
	if csi == nil {
		return nil
	}
	var out []events.Ref
	for _, secret := range []*v1.SecretReference{csi.NodeStageSecretRef, csi.NodePublishSecretRef, csi.NodeExpandSecretRef} {
		if secret != nil {
			out = append(out, events.Ref{Resource: "secrets", Namespace: secret.Namespace, Name: secret.Name})
		}
	}
	return out
}
