package api

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	registrypod "k8s.io/kubernetes/pkg/registry/core/pod"

	"github.com/reprise-run/reprise/events"
)

var podCodec = legacyscheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion)

// admitted is a pod of much variety as it comes out of admission.
func admitted(tb testing.TB, name string) *core.Pod {
	tb.Helper()
	hash := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	access := corev1.VolumeMount{Name: "kube-api-access-x7k2p", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, GenerateName: "web-", Namespace: "shop",
			Labels: map[string]string{"app": "web", "pod-template-hash": "6d4cf56db6"}, Annotations: map[string]string{"a.example/b": "<c>"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "u", Controller: new(true)}},
			Finalizers:      []string{"example.com/f"},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "controller:replicaset", Operation: "Update", APIVersion: "v1", FieldsType: "FieldsV1",
				Time: &metav1.Time{Time: time.Unix(1e9, 0)}, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{}}`)},
			}},
		},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "i", Image: "init", VolumeMounts: []corev1.VolumeMount{access}}},
			Containers: []corev1.Container{{
				Name: "c", Image: "web:1", Args: []string{"-x"}, Env: []corev1.EnvVar{{Name: "A", Value: "1"}},
				Ports:          []corev1.ContainerPort{{ContainerPort: 8080}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}},
				Resources:      corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")}},
				VolumeMounts:   []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, access},
			}},
			Volumes: []corev1.Volume{
				{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: access.Name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: new(int64(3607)), Path: "token"}},
				}}}},
			},
			ServiceAccountName: "default", PriorityClassName: "high", Priority: new(int32(7)), PreemptionPolicy: new(corev1.PreemptLowerPriority),
			Tolerations: []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: new(int64(300))}},
			Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{LabelSelector: hash, TopologyKey: "kubernetes.io/hostname"},
			}}},
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: "DoNotSchedule", LabelSelector: hash}},
		},
	}
	legacyscheme.Scheme.Default(pod)
	made := &core.Pod{}
	if err := legacyscheme.Scheme.Convert(pod, made, nil); err != nil {
		tb.Fatal(err)
	}
	return made
}

// register has the registry make of a pod what it does, up to its document.
func register(ctx context.Context, tb testing.TB, pod *core.Pod) ([]byte, error) {
	tb.Helper()
	ctx = inside(ctx, admin, "create", events.Ref{Resource: "pods", Namespace: "shop", Name: pod.Name})
	rest.FillObjectMetaSystemFields(pod)
	if err := rest.BeforeCreate(registrypod.Strategy, ctx, pod); err != nil {
		return nil, err
	}
	doc, err := canonical(pod, podCodec)
	if err != nil {
		tb.Fatal(err)
	}
	return doc, nil
}

func castFor(t testing.TB, pod *core.Pod) *cast {
	t.Helper()
	made := pod.DeepCopy()
	if _, err := register(t.Context(), t, made); err != nil {
		t.Fatal(err)
	}
	return castOf(pod, made, podCodec)
}

// leaves are the values that a value is made of.
func leaves(v reflect.Value, found *[]reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			*found = append(*found, v)
		} else {
			leaves(v.Elem(), found)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				leaves(v.Field(i), found)
			}
		}
	case reflect.Slice:
		*found = append(*found, v)
		for i := range v.Len() {
			leaves(v.Index(i), found)
		}
	default:
		*found = append(*found, v)
	}
}

// alter makes one value of a pod another.
func alter(r *rand.Rand, pod *core.Pod) {
	var all []reflect.Value
	leaves(reflect.ValueOf(pod).Elem(), &all)
	v := all[r.IntN(len(all))]
	switch v.Kind() {
	case reflect.String:
		texts := []string{"", "web", "no_good", "kube-api-access-zzzzz", "Always", v.String() + "x", "web-" + fmt.Sprint(r.IntN(10))}
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(r.Int64N(3) - 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case reflect.Map:
		if v.Type() == reflect.TypeFor[map[string]string]() {
			m := map[string]string{"k" + fmt.Sprint(r.IntN(3)): "no good"}
			v.Set(reflect.ValueOf(m))
		} else {
			v.SetZero()
		}
	}
}

// agree says whether a pod fits a cast; the registry must then make of it what is
// poured.
func agree(t testing.TB, c *cast, pod *core.Pod) bool {
	t.Helper()
	was := pod.DeepCopy()
	if !c.fits(pod) {
		if !reflect.DeepEqual(pod, was) {
			t.Errorf("a pod that does not fit was changed:\n%v\nis now\n%v", was, pod)
		}
		return false
	}
	want, err := register(t.Context(), t, pod)
	if err != nil {
		t.Fatalf("a pod that fits is refused by the registry: %v", err)
	}
	if got := c.document(pod); !bytes.Equal(got, want) {
		t.Fatalf("poured:\n%s\nmade by the registry:\n%s", got, want)
	}
	return true
}

// What is poured is, byte by byte, what the registry would have made, whatever a pod is
// like; and pods that are alike are poured.
func TestCastsAgreeWithTheRegistry(t *testing.T) {
	c := castFor(t, admitted(t, "web-aaaaa"))
	if c == nil {
		t.Fatal("there is no cast")
	}
	fit := 0
	const seeds = 4000
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 1))
		names := []string{"web-bcd24", "web-99999", "web-aaaa", "web-aaaaaa", "web-aaa-a", "web-aaaaA", "web-aa_aa", "web-aaaa.", "wob-aaaaa", ""}
		pod := admitted(t, names[r.IntN(len(names))])
		for range r.IntN(3) {
			alter(r, pod)
		}
		if r.IntN(2) == 0 {
			for _, name := range volumeNames(&pod.Spec, c.token) {
				*name = "kube-api-access-yyyyy"
			}
		}
		if len(pod.ManagedFields) > 0 {
			pod.ManagedFields[0].Time = &metav1.Time{Time: time.Unix(2e9, 0)}
		}
		if agree(t, c, pod) {
			fit++
		}
	}
	if fit < seeds/20 || fit > seeds/2 {
		t.Errorf("of %d pods %d fit", seeds, fit)
	}
	for _, token := range []string{c.token, "kube-api-access-yyyyy"} {
		pod := admitted(t, "web-z9z9z")
		for _, name := range volumeNames(&pod.Spec, c.token) {
			*name = token
		}
		if !agree(t, c, pod) {
			t.Errorf("a pod with another name does not fit, its token in %s", token)
		}
	}
}

// Nothing that a pod carries with it can pass for what its document has holes for.
func TestCastsOfPodsThatLookHollow(t *testing.T) {
	for _, hole := range holes {
		pod := admitted(t, "web-aaaaa")
		pod.Annotations["a"], pod.Spec.Containers[0].Args = hole, []string{hole}
		if c := castFor(t, pod.DeepCopy()); c != nil {
			pod.Name = "web-bbbbb"
			agree(t, c, pod)
		}
	}
}

// Where more of a pod depends on its name than the cast knows, there is none.
func TestNoCasts(t *testing.T) {
	for what, change := range map[string]func(*core.Pod){
		"a claim named after the pod": func(p *core.Pod) {
			p.Spec.Volumes[0].VolumeSource = core.VolumeSource{Ephemeral: &core.EphemeralVolumeSource{VolumeClaimTemplate: &core.PersistentVolumeClaimTemplate{
				Spec: core.PersistentVolumeClaimSpec{
					AccessModes: []core.PersistentVolumeAccessMode{core.ReadWriteOnce},
					Resources:   core.VolumeResourceRequirements{Requests: core.ResourceList{"storage": resource.MustParse("1Gi")}},
				},
			}}}
		},
		"a condition":  func(p *core.Pod) { p.Spec.SchedulingGates = []core.PodSchedulingGate{{Name: "example.com/wait"}} },
		"two managers": func(p *core.Pod) { p.ManagedFields = append(p.ManagedFields, p.ManagedFields[0]) },
		"no manager":   func(p *core.Pod) { p.ManagedFields = nil },
		"a spec that the registry changes": func(p *core.Pod) {
			p.Spec.TopologySpreadConstraints[0].MatchLabelKeys = []string{"pod-template-hash"}
		},
	} {
		pod := admitted(t, "web-aaaaa")
		change(pod)
		if castFor(t, pod) != nil {
			t.Errorf("there is a cast of a pod with %s", what)
		}
	}
}
