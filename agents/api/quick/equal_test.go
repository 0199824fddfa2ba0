package quick_test

import (
	"reflect"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/reprise-run/reprise/agents/api/quick"
	"github.com/reprise-run/reprise/projections/kindtest"
)

// TestEqualAsReflectHasIt compares random pods with copies of which one part, at a time,
// is that of another pod.
func TestEqualAsReflectHasIt(t *testing.T) {
	fill := kindtest.Filler(4)
	same, different := 0, 0
	compare := func(a, b *core.Pod) {
		t.Helper()
		want := reflect.DeepEqual(a, b)
		if quick.Equal(a, b) != want || quick.Equal(b, a) != want {
			t.Fatalf("equal is %t of\n%v\nand\n%v", !want, a, b)
		}
		if want {
			same++
		} else {
			different++
		}
	}
	for range 40 {
		var pod, other core.Pod
		fill.Fill(&pod)
		fill.Fill(&other)
		compare(&pod, pod.DeepCopy())
		compare(&pod, &other)
		for i := range parts(&pod) {
			copied := pod.DeepCopy()
			parts(copied)[i].Set(parts(&other)[i])
			compare(&pod, copied)
			parts(copied)[i].SetZero()
			compare(&pod, copied)
		}
	}
	if same < 1000 || different < 1000 {
		t.Errorf("only %d were the same and %d different", same, different)
	}
}

// parts are the fields of a pod, and theirs.
func parts(pod *core.Pod) (all []reflect.Value) {
	v := reflect.ValueOf(pod).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		all = append(all, f)
		for j := range f.NumField() {
			all = append(all, f.Field(j))
		}
	}
	return all
}

func TestEqualInUnusualValues(t *testing.T) {
	type odd struct {
		Any    any
		Object runtime.Object
		Floats []float64
		Names  map[string][]string
		Limit  resource.Quantity
		At     metav1.Time
		Array  [2]string
		List   v1.ResourceList
		Inner  core.ResourceList
		hidden map[string]string
	}
	large := resource.MustParse("123456789012345678901234567890")
	now := time.Unix(1e9, 0)
	all := []odd{
		{}, {Any: 1}, {Any: "1"}, {Any: []string{}}, {Any: []string(nil)}, {Any: (*int)(nil)}, {Object: &v1.Pod{}}, {Object: &v1.Node{}},
		{Floats: []float64{}}, {Floats: []float64{0.5}}, {Names: map[string][]string{}}, {Names: map[string][]string{"a": nil}},
		{Names: map[string][]string{"a": {}}}, {Names: map[string][]string{"b": nil}}, {Limit: resource.MustParse("1")}, {Limit: resource.MustParse("1000m")},
		{Limit: resource.MustParse("1Ki")}, {List: v1.ResourceList{}}, {List: v1.ResourceList{"cpu": resource.MustParse("1")}}, {List: v1.ResourceList{"cpu": resource.MustParse("1000m")}},
		{List: v1.ResourceList{"cpu": large}}, {List: v1.ResourceList{"cpu": large.DeepCopy()}}, {List: v1.ResourceList{"memory": large}}, {Inner: core.ResourceList{"cpu": large.DeepCopy()}},
		{hidden: map[string]string{"a": "b"}}, {hidden: map[string]string{"a": "c"}}, {At: metav1.NewTime(now)}, {At: metav1.NewTime(now.UTC())}, {Array: [2]string{"a"}}, {Array: [2]string{"", "a"}},
	}
	for i := range all {
		for j := range all {
			if got, want := quick.Equal(&all[i], &all[j]), reflect.DeepEqual(&all[i], &all[j]); got != want {
				t.Errorf("equal is %t of %#v and %#v", got, all[i], all[j])
			}
		}
	}
}

func TestEqualMakesNoGarbage(t *testing.T) {
	pod := &core.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "tier": "front"}},
		Spec: core.PodSpec{Containers: []core.Container{{
			Name: "a", Args: []string{"b"}, SecurityContext: &core.SecurityContext{},
			Resources: core.ResourceRequirements{Requests: core.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")}},
		}}},
	}
	other := pod.DeepCopy()
	if n := testing.AllocsPerRun(100, func() { quick.Equal(pod, other) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
