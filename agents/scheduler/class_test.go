package scheduler

import (
	"fmt"
	"math/rand"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/projections"
)

// Specs that are taken for one without being looked through are of one class.
func TestOneSpecIsOneClass(t *testing.T) {
	ones := 0
	for seed := range int64(20) {
		state := randomCluster(rand.New(rand.NewSource(seed)), true)
		for i := range 3 {
			put(state, "pods", "ns", fmt.Sprint("like", i), "Pod", `"app":"a1"`, `"spec":{"containers":[{"name":"c","image":"i"}],"tolerations":[{"operator":"Exists"}]}`)
		}
		var pods []*v1.Pod
		for e := range state.View().List("", "pods", "") {
			pods = append(pods, projections.As[v1.Pod](e))
		}
		for _, a := range pods {
			for _, b := range pods {
				if a == b || !areOne(&a.Spec, &b.Spec) {
					continue
				}
				ones++
				if classKey(a, false, nil, nil) != classKey(b, false, nil, nil) {
					t.Errorf("%s and %s are one, and of two classes", a.Name, b.Name)
				}
			}
		}
	}
	if ones == 0 {
		t.Error("no specs are one")
	}
}
