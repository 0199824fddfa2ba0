package scheduler

import (
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/reprise-run/reprise/projections"
)

// host is a node and what is taken of it.
type host struct {
	nodeFacts
	pods                  int64
	used                  amounts
	cpuScore, memoryScore int64
	ports                 []port
}

// nodeFacts is what a version of a node says, made ready for comparing.
type nodeFacts struct {
	entry       *projections.Entry
	node        *v1.Node
	allocatable amounts
	maxPods     int64
	images      map[string]int64 // name to bytes
}

// take counts a pod against the host.
func (h *host) take(r *request) {
	h.pods++
	h.used = h.used.add(r.amounts)
	h.cpuScore += r.cpuScore
	h.memoryScore += r.memoryScore
	h.ports = append(h.ports, r.ports...)
}

// release is the reverse of take.
func (h *host) release(r *request) {
	h.pods--
	h.used = h.used.subtract(r.amounts)
	h.cpuScore -= r.cpuScore
	h.memoryScore -= r.memoryScore
	for _, p := range r.ports {
		i := slices.Index(h.ports, p)
		h.ports = slices.Delete(h.ports, i, i+1)
	}
}

// podFacts is what a version of a bound pod takes up.
type podFacts struct {
	entry   *projections.Entry
	over    bool // it takes up nothing any more
	picky   bool
	request *request
}

// isAlike says whether two versions of a pod are the same to all but themselves.
func (f *podFacts) isAlike(o *podFacts) bool {
	return f.request == o.request && f.over == o.over && f.picky == o.picky && f.entry.Node() == o.entry.Node()
}

func factsOf(e *projections.Entry) nodeFacts {
	n := projections.As[v1.Node](e)
	f := nodeFacts{
		entry:       e,
		node:        n,
		allocatable: amountsOf(n.Status.Allocatable),
		maxPods:     n.Status.Allocatable.Pods().Value(),
		images:      map[string]int64{},
	}
	for _, image := range n.Status.Images {
		for _, name := range image.Names {
			f.images[name] = image.SizeBytes
		}
	}
	return f
}

// looksAlike says whether a node is the same to all pods in two versions, but for how much
// there is of it. Most changes are of its conditions.
func looksAlike(a, b *nodeFacts) bool {
	return a.node.Spec.Unschedulable == b.node.Spec.Unschedulable && maps.Equal(a.node.Labels, b.node.Labels) &&
		equality.Semantic.DeepEqual(a.node.Spec.Taints, b.node.Spec.Taints) && maps.Equal(a.images, b.images)
}

// podFactsOf is what a pod takes up, given what others did, such as another version of it:
// the first that asks for as much has been added up already. They may be nil.
func podFactsOf(e *projections.Entry, others ...*podFacts) *podFacts {
	p := projections.As[v1.Pod](e)
	f := &podFacts{entry: e, over: isOver(p), picky: isPicky(p)}
	for _, o := range others {
		switch {
		case o == nil:
		case o.entry == e:
			return o
		case asksAlike(projections.As[v1.Pod](o.entry), p):
			f.request = o.request
			return f
		}
	}
	r := requestsOf(p)
	f.request = &r
	return f
}

// imageName is the name by which nodes list an image that a pod asks for.
func imageName(name string) string {
	if strings.LastIndexByte(name, ':') <= strings.LastIndexByte(name, '/') {
		return name + ":latest"
	}
	return name
}

// hash is FNV-1a with a finish that spreads short strings over all bits.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return h
}
