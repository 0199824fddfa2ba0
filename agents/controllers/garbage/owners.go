package garbage

import (
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// ownerState is how an owner that an object names stands.
type ownerState int

const (
	// ownerSolid is there, or cannot be known: it keeps its dependents.
	ownerSolid ownerState = iota
	// ownerAbsent is not there, or is another object of the same name.
	ownerAbsent
	// ownerWaiting is there, but is being deleted once its dependents are.
	ownerWaiting
)

func stateOf(v runner.View, e *projections.Entry, o *metav1.OwnerReference) ownerState {
	ref, known := resolve(v, e.Ref.Namespace, o)
	if !known {
		return ownerSolid
	}
	owner := get(v, ref)
	switch {
	case owner == nil || owner.UID != string(o.UID):
		return ownerAbsent
	case isWaiting(owner):
		return ownerWaiting
	}
	return ownerSolid
}

// waitingOwners names the owners of an object that are there and being deleted:
// they may be waiting for it.
func waitingOwners(v runner.View, e *projections.Entry) []events.Ref {
	var out []events.Ref
	refs := e.Meta().OwnerReferences
	for i := range refs {
		ref, known := resolve(v, e.Ref.Namespace, &refs[i])
		if !known {
			continue
		}
		if owner := get(v, ref); owner != nil && owner.UID == string(refs[i].UID) && owner.Meta().DeletionTimestamp != nil {
			out = append(out, ref)
		}
	}
	return out
}

// resolve finds out which object an owner reference in a namespace means. It
// says false for kinds that the log does not hold, and for a reference from a
// cluster-wide object to a namespaced kind, which means nothing.
func resolve(v runner.View, namespace string, o *metav1.OwnerReference) (events.Ref, bool) {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return events.Ref{}, false
	}
	resource, namespaced, known := builtIn(gv.WithKind(o.Kind))
	if !known {
		resource, namespaced, known = custom(v, gv.Group, o.Kind)
	}
	if !known || (namespaced && namespace == "") {
		return events.Ref{}, false
	}
	ref := events.Ref{Group: gv.Group, Resource: resource, Name: o.Name}
	if namespaced {
		ref.Namespace = namespace
	}
	return ref, true
}

// builtIn knows the kinds of Kubernetes itself.
func builtIn(gvk schema.GroupVersionKind) (resource string, namespaced, known bool) {
	if gvk.Group == retired || !registered()[gvk.GroupKind()] && !served[gvk.GroupKind()] {
		return "", false, false
	}
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	return plural.Resource, !clusterWide[gvk.Kind], true
}

// registered are the kinds that client-go knows.
var registered = sync.OnceValue(func() map[schema.GroupKind]bool {
	kinds := map[schema.GroupKind]bool{}
	for gvk := range scheme.Scheme.AllKnownTypes() {
		if gvk.Version != runtime.APIVersionInternal {
			kinds[gvk.GroupKind()] = true
		}
	}
	return kinds
})

// retired is a group that client-go still knows and that is served no more. An
// object that names an owner by it, as old manifests do, has not lost its owner.
const retired = "extensions"

// served are the kinds that Kubernetes has by itself and client-go does not.
var served = map[schema.GroupKind]bool{
	{Group: apiextensionsv1.GroupName, Kind: "CustomResourceDefinition"}: true,
	{Group: "apiregistration.k8s.io", Kind: "APIService"}:                true,
}

// clusterWide are the kinds of Kubernetes itself that are in no namespace.
var clusterWide = map[string]bool{
	"APIService":                       true,
	"CSIDriver":                        true,
	"CSINode":                          true,
	"CertificateSigningRequest":        true,
	"ClusterRole":                      true,
	"ClusterRoleBinding":               true,
	"ClusterTrustBundle":               true,
	"CustomResourceDefinition":         true,
	"DeviceClass":                      true,
	"DeviceTaintRule":                  true,
	"FlowSchema":                       true,
	"IPAddress":                        true,
	"IngressClass":                     true,
	"MutatingAdmissionPolicy":          true,
	"MutatingAdmissionPolicyBinding":   true,
	"MutatingWebhookConfiguration":     true,
	"Namespace":                        true,
	"Node":                             true,
	"PersistentVolume":                 true,
	"PriorityClass":                    true,
	"PriorityLevelConfiguration":       true,
	"ResourceSlice":                    true,
	"RuntimeClass":                     true,
	"ServiceCIDR":                      true,
	"StorageClass":                     true,
	"StorageVersion":                   true,
	"StorageVersionMigration":          true,
	"ValidatingAdmissionPolicy":        true,
	"ValidatingAdmissionPolicyBinding": true,
	"ValidatingWebhookConfiguration":   true,
	"VolumeAttachment":                 true,
	"VolumeAttributesClass":            true,
}

// custom knows the kinds that CustomResourceDefinitions define.
func custom(v runner.View, group, kind string) (resource string, namespaced, known bool) {
	for e := range v.List(apiextensionsv1.GroupName, "customresourcedefinitions", "") {
		spec := &projections.As[apiextensionsv1.CustomResourceDefinition](e).Spec
		if spec.Group == group && spec.Names.Kind == kind {
			return spec.Names.Plural, spec.Scope == apiextensionsv1.NamespaceScoped, true
		}
	}
	return "", false, false
}
