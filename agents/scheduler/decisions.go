package scheduler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// copied are the labels of a node that its pods get, as the API does at a
// binding.
var copied = []string{v1.LabelTopologyRegion, v1.LabelTopologyZone}

// bind is the decision that a pod runs on a node. It changes what the binding
// subresource of the API changes.
func bind(p waitingPod, node *v1.Node, note []byte, now time.Time) events.Decision {
	ops := labelOps(p.pod, node)
	ops = append(ops, events.Op{Op: "add", Path: "/spec/nodeName", Value: runner.Encode(node.Name)})
	op, _ := conditionOp(p.pod, v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionTrue}, now)
	ops = append(ops, op)
	if p.pod.Status.NominatedNodeName != "" {
		ops = append(ops, events.Op{Op: "remove", Path: "/status/nominatedNodeName"})
	}
	return decision(p, Bound, ops, note)
}

// refuse is the decision that no node takes a pod; false if the pod says so
// already.
func (b *batch) refuse(p waitingPod, trigger uint64, now time.Time) (events.Decision, bool) {
	var message string
	var why explanation
	if p.trouble != "" {
		message = unavailable(len(b.hosts), p.trouble)
		why = explanation{Nodes: len(b.hosts), Refused: map[string]int{p.trouble: len(b.hosts)}}
	} else {
		p.class.catchUp()
		message, why = p.class.message(), p.class.explanation()
	}
	why.Trigger = trigger
	op, changed := conditionOp(p.pod, v1.PodCondition{
		Type:               v1.PodScheduled,
		ObservedGeneration: p.pod.Generation,
		Status:             v1.ConditionFalse,
		Reason:             v1.PodReasonUnschedulable,
		Message:            message,
	}, now)
	if !changed {
		return events.Decision{}, false
	}
	return decision(p, Unschedulable, []events.Op{op}, encode(why)), true
}

// decision is about one pod, which must still be as it was seen. Its cause is
// the pod's last event: the creation, or that it was unschedulable before.
func decision(p waitingPod, typ string, ops []events.Op, note []byte) events.Decision {
	return events.Decision{
		Because: p.entry.Sequence,
		Changes: []events.Change{{Type: typ, Object: p.entry.Ref, UID: p.entry.UID, Data: events.AppendPatch(nil, ops), Note: note}},
		Expect:  []events.Expectation{{Object: p.entry.Ref, Sequence: p.entry.Sequence}},
	}
}

// conditionOp is the operation that gives a pod a condition, and whether that
// says anything new. The time of transition stays if the status does.
func conditionOp(p *v1.Pod, c v1.PodCondition, now time.Time) (events.Op, bool) {
	c.LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
	have := p.Status.Conditions
	if i := slices.IndexFunc(have, func(o v1.PodCondition) bool { return o.Type == c.Type }); i >= 0 {
		if old := &have[i]; old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
			if old.Reason == c.Reason && old.Message == c.Message {
				return events.Op{}, false
			}
		}
		return events.Op{Op: "replace", Path: "/status/conditions/" + strconv.Itoa(i), Value: encode(ordered(c))}, true
	}
	switch {
	case len(have) > 0:
		return events.Op{Op: "add", Path: "/status/conditions/-", Value: encode(ordered(c))}, true
	case p.Status.Phase != "" || p.Status.QOSClass != "":
		return events.Op{Op: "add", Path: "/status/conditions", Value: encode([]condition{ordered(c)})}, true
	}
	// Without even a phase there is no status to put it into.
	return events.Op{Op: "add", Path: "/status", Value: encode(map[string]any{"conditions": []condition{ordered(c)}})}, true
}

// labelOps gives the pod the node's place in the topology.
func labelOps(p *v1.Pod, node *v1.Node) []events.Op {
	var ops []events.Op
	fresh := map[string]string{}
	for _, key := range copied {
		value, ok := node.Labels[key]
		if old, has := p.Labels[key]; !ok || (has && old == value) {
			continue
		}
		fresh[key] = value
		ops = append(ops, events.Op{Op: "add", Path: "/metadata/labels/" + strings.ReplaceAll(key, "/", "~1"), Value: runner.Encode(value)})
	}
	if len(p.Labels) == 0 && len(fresh) > 0 {
		return []events.Op{{Op: "add", Path: "/metadata/labels", Value: encode(fresh)}}
	}
	return ops
}

// condition is a v1.PodCondition with its members in the order of their names.
type condition struct {
	LastProbeTime      *metav1.Time        `json:"lastProbeTime"`
	LastTransitionTime metav1.Time         `json:"lastTransitionTime"`
	Message            string              `json:"message,omitempty"`
	ObservedGeneration int64               `json:"observedGeneration,omitempty"`
	Reason             string              `json:"reason,omitempty"`
	Status             v1.ConditionStatus  `json:"status"`
	Type               v1.PodConditionType `json:"type"`
}

func ordered(c v1.PodCondition) condition {
	return condition{
		LastTransitionTime: c.LastTransitionTime, Message: c.Message, ObservedGeneration: c.ObservedGeneration,
		Reason: c.Reason, Status: c.Status, Type: c.Type,
	}
}

// encode returns canonical JSON of what has its members in order already: maps,
// and structs that are declared so. (Sorting them afterwards would cost more than
// all the rest of a decision.) What the scheduler says always encodes, so a
// failure is a bug.
func encode(v any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("cannot encode %T: %v", v, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
