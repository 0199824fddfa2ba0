package nodelifecycle

import (
	"reflect"
	"slices"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// symptoms say which taint goes with which state of a condition, and whether it
// also drives away the pods that are there.
var symptoms = []struct {
	condition core.NodeConditionType
	status    core.ConditionStatus
	taint     string
	drives    bool
}{
	{core.NodeReady, core.ConditionFalse, core.TaintNodeNotReady, true},
	{core.NodeReady, core.ConditionUnknown, core.TaintNodeUnreachable, true},
	{core.NodeMemoryPressure, core.ConditionTrue, core.TaintNodeMemoryPressure, false},
	{core.NodeDiskPressure, core.ConditionTrue, core.TaintNodeDiskPressure, false},
	{core.NodePIDPressure, core.ConditionTrue, core.TaintNodePIDPressure, false},
	{core.NodeNetworkUnavailable, core.ConditionTrue, core.TaintNodeNetworkUnavailable, false},
}

// taint brings the taints in line with the conditions. Others, which people put
// there, stay as they are, save that one that drives pods away gets the time
// from which their toleration counts.
func taint(e *projections.Entry, node *core.Node, because uint64, now time.Time) (events.Decision, bool) {
	want := map[core.Taint]bool{
		{Key: core.TaintNodeUnschedulable, Effect: core.TaintEffectNoSchedule}: node.Spec.Unschedulable,
	}
	for _, s := range symptoms {
		_, c := condition(&node.Status, s.condition)
		has := c != nil && c.Status == s.status
		want[core.Taint{Key: s.taint, Effect: core.TaintEffectNoSchedule}] = has
		if s.drives {
			want[core.Taint{Key: s.taint, Effect: core.TaintEffectNoExecute}] = has
		}
	}
	after := slices.Clone(node.Spec.Taints)
	after = slices.DeleteFunc(after, func(t core.Taint) bool {
		wanted, ours := want[core.Taint{Key: t.Key, Effect: t.Effect}]
		return ours && !wanted
	})
	for _, t := range inOrder(want) {
		if !slices.ContainsFunc(after, func(o core.Taint) bool { return o.MatchTaint(&t) }) {
			after = append(after, t)
		}
	}
	for i := range after {
		if after[i].Effect == core.TaintEffectNoExecute && after[i].TimeAdded == nil {
			at := metav1.NewTime(now)
			after[i].TimeAdded = &at
		}
	}
	if reflect.DeepEqual(after, node.Spec.Taints) || len(after)+len(node.Spec.Taints) == 0 {
		return events.Decision{}, false
	}
	op := runner.Set("/spec/taints", after)
	if len(after) == 0 {
		op = runner.Unset("/spec/taints")
	}
	return runner.Patch(e, "node.tainted", because, op), true
}

// inOrder returns the wanted taints by key and effect.
func inOrder(want map[core.Taint]bool) []core.Taint {
	var out []core.Taint
	for t, wanted := range want {
		if wanted {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b core.Taint) int {
		if a.Key != b.Key {
			return compare(a.Key, b.Key)
		}
		return -compare(a.Effect, b.Effect) // NoSchedule first
	})
	return out
}

func compare[T ~string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// driving returns the taints that drive pods away.
func driving(node *core.Node) []core.Taint {
	var out []core.Taint
	for _, t := range node.Spec.Taints {
		if t.Effect == core.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

func sameTaints(a, b []core.Taint) bool { return reflect.DeepEqual(a, b) }
