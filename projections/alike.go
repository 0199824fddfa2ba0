package projections

import (
	"reflect"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/projections/parse"
)

// alike reads what there is much of, made from templates: the pods of one template are
// alike in most of their parts, such as labels, owners, tolerations and what a container
// asks for, and these are shared by all of them. See decision 0305.
var alike = parse.Keeping(
	reflect.TypeFor[map[string]string](),
	reflect.TypeFor[core.ResourceList](),
	reflect.TypeFor[[]metav1.OwnerReference](),
	reflect.TypeFor[[]metav1.ManagedFieldsEntry](),
	reflect.TypeFor[*metav1.FieldsV1](),
	reflect.TypeFor[[]core.Container](),
	reflect.TypeFor[[]core.Volume](),
	reflect.TypeFor[[]core.Toleration](),
	reflect.TypeFor[[]core.EnvVar](),
	reflect.TypeFor[[]core.ContainerPort](),
	reflect.TypeFor[*core.ContainerStateRunning](),
	reflect.TypeFor[*core.Affinity](),
	reflect.TypeFor[[]core.TopologySpreadConstraint](),
	reflect.TypeFor[*core.ProjectedVolumeSource](),
	reflect.TypeFor[*core.ConfigMapVolumeSource](),
	reflect.TypeFor[*core.SecretVolumeSource](),
	reflect.TypeFor[*core.SecurityContext](),
	reflect.TypeFor[*core.PodSecurityContext](),
	reflect.TypeFor[*core.Probe](),
	reflect.TypeFor[[]core.PodCondition](),
	reflect.TypeFor[[]core.ContainerImage](),
)

// isAlike says whether an object is one of these. ConfigMaps and Secrets are not: their
// values must not be remembered when they are gone.
func (e *Entry) isAlike() bool {
	switch e.Ref.Resource {
	case "pods", "nodes", "replicasets", "deployments":
		return true
	}
	return false
}
