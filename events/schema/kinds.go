package schema

import "strings"

// Kinds are the kinds of objects that are built in, by group.
func Kinds() []Kind {
	var all []Kind
	for _, g := range builtIn {
		for _, entry := range strings.Fields(g.kinds) {
			kind, plural, irregular := strings.Cut(entry, "=")
			if !irregular {
				plural = strings.ToLower(kind) + "s"
			}
			all = append(all, Kind{Group: g.group, Resource: plural, Kind: kind, Definition: g.definitions + "." + kind})
		}
	}
	return all
}

// builtIn lists the kinds of each group, with the plural where it is more than an
// s.
var builtIn = []struct{ group, definitions, kinds string }{
	{"", "io.k8s.api.core.v1", "Pod Service ConfigMap Secret Namespace Node ServiceAccount PersistentVolume " +
		"PersistentVolumeClaim Endpoints=endpoints ReplicationController ResourceQuota LimitRange PodTemplate"},
	{"apps", "io.k8s.api.apps.v1", "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision"},
	{"batch", "io.k8s.api.batch.v1", "Job CronJob"},
	{"autoscaling", "io.k8s.api.autoscaling.v2", "HorizontalPodAutoscaler"},
	{"policy", "io.k8s.api.policy.v1", "PodDisruptionBudget"},
	{"networking.k8s.io", "io.k8s.api.networking.v1", "Ingress=ingresses IngressClass=ingressclasses " +
		"NetworkPolicy=networkpolicies IPAddress=ipaddresses ServiceCIDR"},
	{"discovery.k8s.io", "io.k8s.api.discovery.v1", "EndpointSlice"},
	{"rbac.authorization.k8s.io", "io.k8s.api.rbac.v1", "Role RoleBinding ClusterRole ClusterRoleBinding"},
	{"storage.k8s.io", "io.k8s.api.storage.v1", "StorageClass=storageclasses VolumeAttachment CSIDriver CSINode " +
		"CSIStorageCapacity=csistoragecapacities VolumeAttributesClass=volumeattributesclasses"},
	{"scheduling.k8s.io", "io.k8s.api.scheduling.v1", "PriorityClass=priorityclasses"},
	{"node.k8s.io", "io.k8s.api.node.v1", "RuntimeClass=runtimeclasses"},
	{"certificates.k8s.io", "io.k8s.api.certificates.v1", "CertificateSigningRequest"},
	{"admissionregistration.k8s.io", "io.k8s.api.admissionregistration.v1", "MutatingWebhookConfiguration " +
		"ValidatingWebhookConfiguration ValidatingAdmissionPolicy=validatingadmissionpolicies ValidatingAdmissionPolicyBinding"},
	{"flowcontrol.apiserver.k8s.io", "io.k8s.api.flowcontrol.v1", "FlowSchema PriorityLevelConfiguration"},
	{"resource.k8s.io", "io.k8s.api.resource.v1", "DeviceClass=deviceclasses ResourceClaim ResourceClaimTemplate ResourceSlice"},
	{"apiextensions.k8s.io", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1", "CustomResourceDefinition"},
	{"apiregistration.k8s.io", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1", "APIService"},
}
