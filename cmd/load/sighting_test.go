package load

import (
	"reflect"
	"testing"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A sighting is what the whole pod says.
func TestSighting(t *testing.T) {
	whole := core.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web-1", GenerateName: "web-", Namespace: "shop", UID: "u", ResourceVersion: "7", Generation: 3,
			Labels:          map[string]string{"load": "deployment", appLabel: "web", "tier": "backend"},
			Annotations:     map[string]string{"a": "b", metav1.InitialEventsAnnotationKey: "true"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "o"}},
		},
		Spec: core.PodSpec{Containers: deployments(Scenario{Pods: 1, PerDeployment: 1})[0].Spec.Template.Spec.Containers, NodeName: "n1", Hostname: "h"},
		Status: core.PodStatus{Phase: core.PodRunning, PodIP: "10.0.0.1", Conditions: []core.PodCondition{
			{Type: core.ContainersReady, Status: core.ConditionFalse}, {Type: core.PodReady, Status: core.ConditionTrue, Reason: "r"},
			{Type: core.PodScheduled, Status: core.ConditionFalse},
		}},
	}
	want := sighting{node: "n1", ready: true, ObjectMeta: metav1.ObjectMeta{
		Name: "web-1", Namespace: "shop", UID: "u", ResourceVersion: "7",
		Labels: map[string]string{appLabel: "web"}, Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}}
	bare := core.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9"}, Status: core.PodStatus{
		Conditions: []core.PodCondition{{Type: core.PodReady, Status: core.ConditionFalse}}}}
	message, err := (&core.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "11", Continue: "c"}, Items: []core.Pod{whole, bare}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var got sightings
	if err := got.Unmarshal(message); err != nil {
		t.Fatal(err)
	}
	all := sightings{ListMeta: metav1.ListMeta{ResourceVersion: "11", Continue: "c"},
		Items: []sighting{want, {ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9"}}}}
	if !reflect.DeepEqual(got, all) {
		t.Errorf("got\n%+v, want\n%+v", got, all)
	}
	if copied := got.DeepCopyObject(); !reflect.DeepEqual(copied, &all) {
		t.Errorf("the copy is %+v", copied)
	}
	if message, err = whole.Marshal(); err != nil {
		t.Fatal(err)
	}
	broken := 0
	for n := range message {
		if new(sighting).Unmarshal(message[:n]) != nil {
			broken++
		}
	}
	if broken < len(message)-10 {
		t.Errorf("of %d pods that are cut short %d are refused", len(message), broken)
	}
}
