package api

import (
	"testing"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/core/pod"

	"github.com/reprise-run/reprise/projections/kindtest"
)

// By lean fields, selectors select the pods that they select by upstream's.
func TestLeanFieldsSelectAlike(t *testing.T) {
	fill := kindtest.Filler(1)
	selected, tried := 0, 0
	for i := range 400 {
		var p core.Pod
		fill.Fill(&p)
		if i%3 == 0 {
			p.Spec.NodeName, p.Status.PodIPs = "", nil
		}
		_, full, err := pod.GetAttrs(&p)
		if err != nil {
			t.Fatal(err)
		}
		for name, is := range full {
			for _, value := range []string{is, "", "true", "false", "other", "empty"} {
				for _, s := range []fields.Selector{
					fields.OneTermEqualSelector(name, value), fields.OneTermNotEqualSelector(name, value),
					fields.AndSelectors(fields.OneTermEqualSelector(name, value), fields.OneTermNotEqualSelector(hostNetwork, "false")),
				} {
					upstream := pod.MatchPod(labels.Everything(), s)
					lean := upstream
					if err := selectLean(&lean); err != nil {
						t.Fatal(err)
					}
					want, err := upstream.Matches(&p)
					if err != nil {
						t.Fatal(err)
					}
					got, err := lean.Matches(&p)
					if err != nil || got != want {
						t.Fatalf("%s selects %v by lean fields (%v), and %v by %v", s, got, err, want, full)
					}
					tried++
					if want {
						selected++
					}
				}
			}
		}
	}
	if selected < tried/10 || selected > tried*9/10 {
		t.Errorf("%d of %d are selected", selected, tried)
	}
}

// What nearly all pods are once they run takes a small map.
func TestLeanFieldsAreFew(t *testing.T) {
	p := &core.Pod{Status: core.PodStatus{Phase: core.PodRunning, PodIPs: []core.PodIP{{IP: "10.0.0.1"}}}}
	p.Name, p.Namespace = "web-1", "shop"
	p.Spec = core.PodSpec{NodeName: "n1", RestartPolicy: core.RestartPolicyAlways, SchedulerName: "default-scheduler", ServiceAccountName: "default"}
	if _, set, err := leanAttributes(p); err != nil || len(set) != 8 {
		t.Errorf("a pod has the fields %v (%v)", set, err)
	}
}
