package scheduler

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Policy is what about the scheduler can be chosen: how it prefers nodes, not
// which it refuses. The zero value is kube-scheduler's default profile, as far as
// this package goes. It encodes as JSON: what is chosen otherwise is recorded with
// each decision, so that replay can choose the same.
type Policy struct {
	// Weights are those of the scores, by the plugins of kube-scheduler; a score
	// that is not there has its default weight, and one of weight 0 counts nothing.
	Weights map[Score]int64 `json:"weights,omitempty"`
	// Fit is how a node is scored by its resources: LeastAllocated if empty.
	Fit FitStrategy `json:"fit,omitempty"`
	// Resources are what Fit looks at; CPU and memory alike if there are none.
	Resources []ResourceWeight `json:"resources,omitempty"`
	// Shape is the function of RequestedToCapacityRatio.
	Shape []ShapePoint `json:"shape,omitempty"`
	// Spread are constraints for pods of services and controllers that have none.
	Spread []v1.TopologySpreadConstraint `json:"spread,omitempty"`
	// Affinity is added to that of each pod.
	Affinity *v1.NodeAffinity `json:"affinity,omitempty"`
	// HardPodAffinity is what the required affinity of a pod to others weighs when
	// these choose a node; 1 if nil.
	HardPodAffinity *int64 `json:"hardPodAffinity,omitempty"`
	// DeafToPods leaves out what pods prefer that are there already, unless the
	// pod prefers something itself.
	DeafToPods bool `json:"deafToPods,omitempty"`
}

// Score is a score by the name of the plugin of kube-scheduler that computes it.
type Score string

// The scores.
const (
	TaintToleration  Score = "TaintToleration"
	NodeAffinity     Score = "NodeAffinity"
	ResourcesFit     Score = "NodeResourcesFit"
	BalancedResource Score = "NodeResourcesBalancedAllocation"
	ImageLocality    Score = "ImageLocality"
	TopologySpread   Score = "PodTopologySpread"
	InterPodAffinity Score = "InterPodAffinity"
)

// DefaultWeights are those of kube-scheduler's default profile.
var DefaultWeights = map[Score]int64{
	TaintToleration: taintsWeight, NodeAffinity: affinityWeight, ResourcesFit: 1, BalancedResource: 1, ImageLocality: 1,
	TopologySpread: spreadWeight, InterPodAffinity: podsWeight,
}

// FitStrategy names a way to score nodes by their resources.
type FitStrategy string

// The strategies.
const (
	LeastAllocated           FitStrategy = "LeastAllocated"
	MostAllocated            FitStrategy = "MostAllocated"
	RequestedToCapacityRatio FitStrategy = "RequestedToCapacityRatio"
)

// ResourceWeight is how much a resource weighs in the score of a node.
type ResourceWeight struct {
	Name   v1.ResourceName `json:"name"`
	Weight int64           `json:"weight"`
}

// ShapePoint is the score, from 0 to 100, of a node that is taken to a degree in
// per cent. Between points it is linear.
type ShapePoint struct {
	Utilization int64 `json:"utilization"`
	Score       int64 `json:"score"`
}

// ParsePolicy reads the JSON of a policy.
func ParsePolicy(text []byte) (Policy, error) {
	var p Policy
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("the scheduler's policy cannot be read: %w", err)
	}
	return p, nil
}

// policy is a Policy made ready for use.
type policy struct {
	Policy
	taints, affinity, fit, balanced, images, spread, pods int64
	resources                                             []ResourceWeight
	hard                                                  int64
	required                                              *nodeaffinity.NodeSelector
	preferred                                             *nodeaffinity.PreferredSchedulingTerms
}

func newPolicy(p Policy) (*policy, error) {
	weight := func(s Score) int64 {
		if w, ok := p.Weights[s]; ok {
			return w
		}
		return DefaultWeights[s]
	}
	out := &policy{
		Policy: p, taints: weight(TaintToleration), affinity: weight(NodeAffinity), fit: weight(ResourcesFit),
		balanced: weight(BalancedResource), images: weight(ImageLocality), spread: weight(TopologySpread), pods: weight(InterPodAffinity),
		resources: p.Resources, hard: 1,
	}
	if len(out.resources) == 0 {
		out.resources = []ResourceWeight{{v1.ResourceCPU, 1}, {v1.ResourceMemory, 1}}
	}
	if p.HardPodAffinity != nil {
		out.hard = *p.HardPodAffinity
	}
	if p.Affinity == nil {
		return out, nil
	}
	var err error
	if r := p.Affinity.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		if out.required, err = nodeaffinity.NewNodeSelector(r); err != nil {
			return nil, fmt.Errorf("the affinity that is added to all pods: %w", err)
		}
	}
	if out.preferred, err = nodeaffinity.NewPreferredSchedulingTerms(p.Affinity.PreferredDuringSchedulingIgnoredDuringExecution); err != nil {
		return nil, fmt.Errorf("the affinity that is added to all pods: %w", err)
	}
	return out, nil
}

// allows says whether the affinity that is added to all pods lets them go to a
// node.
func (p *policy) allows(node *v1.Node) bool { return p.required == nil || p.required.Match(node) }

// fitScore scores a host by its resources, from 0 to 100, if it takes the pod.
func (p *policy) fitScore(h *host, r *request) int64 {
	var sum, weights int64
	for _, w := range p.resources {
		taken, capacity := amountOf(w.Name, h, r)
		if capacity == 0 {
			continue
		}
		var s int64
		switch p.Fit {
		case MostAllocated:
			s = min(taken, capacity) * 100 / capacity
		case RequestedToCapacityRatio:
			if s = p.shaped(min(taken, capacity) * 100 / capacity); s == 0 {
				continue
			}
		default:
			s = left(taken, capacity)
		}
		sum += s * w.Weight
		weights += w.Weight
	}
	switch {
	case weights == 0:
		return 0
	case p.Fit == RequestedToCapacityRatio:
		return (2*sum + weights) / (2 * weights)
	}
	return sum / weights
}

// amountOf is how much of a resource would be taken of a host with the pod, and
// how much there is; zero of what the host does not have or the pod has no use for.
func amountOf(name v1.ResourceName, h *host, r *request) (taken, capacity int64) {
	switch name {
	case v1.ResourceCPU:
		return h.cpuScore + r.cpuScore, h.allocatable.cpu
	case v1.ResourceMemory:
		return h.memoryScore + r.memoryScore, h.allocatable.memory
	case v1.ResourceEphemeralStorage:
		return h.used.storage + r.storage, h.allocatable.storage
	}
	if r.others[name] == 0 {
		return 0, 0
	}
	return h.used.others[name] + r.others[name], h.allocatable.others[name]
}

// shaped is the value of the shape's function.
func (p *policy) shaped(utilization int64) int64 {
	for i, to := range p.Shape {
		if utilization > to.Utilization {
			continue
		}
		if i == 0 || utilization == to.Utilization {
			return to.Score
		}
		from := p.Shape[i-1]
		return from.Score + (to.Score-from.Score)*(utilization-from.Utilization)/(to.Utilization-from.Utilization)
	}
	if len(p.Shape) == 0 {
		return 0
	}
	return p.Shape[len(p.Shape)-1].Score
}
