package scheduler

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/projections"
)

// batch is one pass over the queue.
type batch struct {
	*memo
	trace   *projections.Trace // of the view
	classes map[string]*class
	latest  *v1.Pod // the last pod that a class was looked up for, if it has to do with nothing else
	like    *class  // that of latest
	taken   []taking

	// The rest is for pods that have to do with others. See neighbours.
	view       runner.View
	picky      bool       // whether any pod has rules about others
	residents  []resident // of before
	bound      []resident // in this batch
	topologies map[string]*topology
	parsed     map[*v1.Pod]*terms
}

// taking is what a pod that is bound in a batch takes of a host.
type taking struct {
	host    int
	request *request
}

// take counts a pod of the class against a host.
func (b *batch) take(h int, p *v1.Pod, c *class) {
	b.hosts[h].take(&c.request)
	b.recounted = append(b.recounted, h)
	b.taken = append(b.taken, taking{h, &c.request})
	b.bound = append(b.bound, resident{p, h})
}

// class is what the pods have in common to which all nodes look the same: they
// ask for the same, so they are refused and scored alike. Pods of one controller
// are of one class.
type class struct {
	*profile
	memo  *memo
	looks []look
	// totals are the hosts' scores, weighted, and none of a host that is refused:
	// side by side, because all of them are gone through for each pod, and so are the
	// standings.
	totals    []int64
	standings []standing
	// neighbours is nil for pods that have nothing to do with others.
	neighbours *neighbours
	// ranking is totals, or what neighbours makes of them.
	ranking []int64
	// refused counts the hosts by reason, feasible those without one.
	refused  []int
	feasible int
	seen     int // how much of memo.recounted it has looked at
}

// profile is the part of a class that depends on nothing but its pods and the
// nodes, whatever is bound to them.
type profile struct {
	request request
	// others is the order of request.others, after which reasons are numbered.
	others []v1.ResourceName
	// static holds how each host appears before its pods are counted, or, once there is
	// the class, as it does to that.
	static []look
	// class is that of pods that have nothing to do with others, which outlasts a batch.
	class *class
}

// look is how a host appears to a class.
type look struct {
	reasons       reasons
	static        reasons // those that no binding changes
	taints        int64   // scores before weighting, each 0 to 100
	affinity      int64
	images        int64
	fit, balanced int64
}

// reasons is a set of reasons to refuse a host, as bits.
type reasons uint64

// The reasons, in the order in which they are looked for. From others on they
// are the class's other resources.
const (
	cordoned = iota
	tainted
	mismatched
	outOfReach
	portTaken
	tooManyPods
	noCPU
	noMemory
	noStorage
	unspreadable
	skewed
	lonely
	crowded
	repelled
	others
)

var reasonTexts = [others]string{
	"node(s) were unschedulable",
	"node(s) had untolerated taint(s)",
	"node(s) didn't match Pod's node affinity/selector",
	"node(s) didn't match PersistentVolume's node affinity",
	"node(s) didn't have free ports for the requested pod ports",
	"Too many pods",
	"Insufficient cpu",
	"Insufficient memory",
	"Insufficient ephemeral-storage",
	"node(s) didn't match pod topology spread constraints (missing required label)",
	"node(s) didn't match pod topology spread constraints",
	"node(s) didn't match pod affinity rules",
	"node(s) didn't match pod anti-affinity rules",
	"node(s) didn't satisfy existing pods anti-affinity rules",
}

func (c *class) text(reason int) string {
	if reason < others {
		return reasonTexts[reason]
	}
	return fmt.Sprintf("Insufficient %s", c.others[reason-others])
}

// class returns the class of a pod, looking at all hosts if it is the first.
func (b *batch) class(p *v1.Pod, volumes []*projections.Entry) *class {
	var spread []v1.TopologySpreadConstraint
	if len(b.policy.Spread) > 0 {
		spread = b.constraints(p)
	}
	related := b.isRelated(p)
	alone := !related && len(volumes) == 0
	if alone && b.latest != nil && areOne(&p.Spec, &b.latest.Spec) {
		return b.like
	}
	key := classKey(p, related, spread, volumes)
	c, ok := b.classes[key]
	if !ok {
		c = newClass(b, key, p, volumes)
		b.classes[key] = c
	}
	if alone {
		b.latest, b.like = p, c
	}
	return c
}

// areOne says whether two specs share the memory of all that classKey is made of, as those
// of one template do that have no selector and no overhead.
func areOne(a, b *v1.PodSpec) bool {
	return isOne(a.Containers, b.Containers) && isOne(a.InitContainers, b.InitContainers) && isOne(a.Volumes, b.Volumes) &&
		isOne(a.Tolerations, b.Tolerations) && a.Affinity == b.Affinity && a.Resources == b.Resources &&
		len(a.NodeSelector)+len(b.NodeSelector)+len(a.Overhead)+len(b.Overhead) == 0
}

func isOne[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// classKey is all of a pod that the scheduler looks at, as text: with what other
// pods see of it, if it has to do with them.
func classKey(p *v1.Pod, related bool, spread []v1.TopologySpreadConstraint, volumes []*projections.Entry) string {
	type container struct {
		Image     string                   `json:"i"`
		Resources *v1.ResourceRequirements `json:"r"`
		Ports     []v1.ContainerPort       `json:"p,omitempty"`
		Restart   any                      `json:"s,omitempty"`
	}
	var affinity *v1.NodeAffinity
	if p.Spec.Affinity != nil {
		affinity = p.Spec.Affinity.NodeAffinity
	}
	of := func(all []v1.Container) []container {
		out := make([]container, len(all))
		for i := range all {
			out[i] = container{Image: all[i].Image, Resources: &all[i].Resources, Ports: all[i].Ports, Restart: all[i].RestartPolicy}
		}
		return out
	}
	parts := []any{
		p.Spec.NodeSelector, affinity, p.Spec.Tolerations, p.Spec.Overhead, p.Spec.Resources,
		of(p.Spec.Containers), of(p.Spec.InitContainers), imageVolumes(p),
	}
	if related {
		parts = append(parts, p.Namespace, p.Labels, p.Spec.Affinity, p.Spec.TopologySpreadConstraints, spread)
	}
	for _, e := range volumes {
		parts = append(parts, e.Ref.Name, e.Sequence)
	}
	key, err := json.Marshal(parts)
	if err != nil {
		panic(fmt.Sprintf("cannot encode the spec of pod %s/%s: %v", p.Namespace, p.Name, err))
	}
	return string(key)
}

func newClass(b *batch, key string, p *v1.Pod, volumes []*projections.Entry) *class {
	made := b.profile(key, func() *profile { return newProfile(b, p, volumes) })
	if made.class != nil {
		return made.class
	}
	c := &class{memo: b.memo, seen: len(b.recounted), profile: made, looks: made.static, neighbours: b.neighbours(p)}
	if c.neighbours == nil {
		made.class = c
	} else {
		c.looks = slices.Clone(c.looks)
	}
	c.totals, c.standings = make([]int64, len(c.looks)), make([]standing, len(c.looks))
	c.refused = make([]int, others+len(c.others))
	for i := range c.looks {
		c.count(c.looks[i].reasons, 1)
		c.totals[i], c.standings[i] = none, none
		c.lookAgain(i)
	}
	return c
}

// newProfile finds out what no binding changes: static reasons, and the scores
// of taints, affinity and images.
func newProfile(b *batch, p *v1.Pod, volumes []*projections.Entry) *profile {
	hosts := b.hosts
	c := &profile{request: requestsOf(p), static: make([]look, len(hosts))}
	for name, n := range c.request.others {
		if n > 0 {
			c.others = append(c.others, name)
		}
	}
	slices.Sort(c.others)
	required := nodeaffinity.GetRequiredNodeAffinity(p)
	preferred := preferredTerms(p)
	prefer := tolerationsOf(p, v1.TaintEffectPreferNoSchedule)
	var mostTaints, mostAffinity int64
	for i := range hosts {
		node, l := hosts[i].node, &c.static[i]
		switch l.static = staticReason(p, node, required); {
		case l.static != 0:
		case !b.policy.allows(node):
			l.static = 1 << mismatched
		case !isInReach(node, volumes):
			l.static = 1 << outOfReach
		}
		l.reasons = l.static
		if l.static != 0 {
			continue
		}
		l.taints = preferNoSchedule(node, prefer)
		if preferred != nil {
			l.affinity = preferred.Score(node)
		}
		if b.policy.preferred != nil {
			l.affinity += b.policy.preferred.Score(node)
		}
		mostTaints, mostAffinity = max(mostTaints, l.taints), max(mostAffinity, l.affinity)
	}
	images := imagesOf(p)
	spread := imageSpread(hosts, images)
	for i := range c.static {
		l := &c.static[i]
		l.taints = 100 - scaled(l.taints, mostTaints)
		l.affinity = scaled(l.affinity, mostAffinity)
		l.images = imageScore(&hosts[i], images, spread, len(hosts))
	}
	return c
}

// staticReason is the first reason to refuse the node that no binding changes.
func staticReason(p *v1.Pod, node *v1.Node, required nodeaffinity.RequiredNodeAffinity) reasons {
	if node.Spec.Unschedulable && !tolerates(p.Spec.Tolerations, &v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}) {
		return 1 << cordoned
	}
	if anyUntolerated(p, node) {
		return 1 << tainted
	}
	// An affinity that cannot be parsed matches no node: the gate refuses it
	// anyway.
	if ok, err := required.Match(node); err != nil || !ok {
		return 1 << mismatched
	}
	return 0
}

// anyUntolerated says whether a taint keeps the pod from the node.
func anyUntolerated(p *v1.Pod, node *v1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(taint v1.Taint) bool {
		return taint.Effect != v1.TaintEffectPreferNoSchedule && !tolerates(p.Spec.Tolerations, &taint)
	})
}

func tolerates(all []v1.Toleration, taint *v1.Taint) bool {
	return corev1.TolerationsTolerateTaint(logr.Discard(), all, taint, false)
}

// tolerationsOf returns the tolerations that may be about taints of an effect.
func tolerationsOf(p *v1.Pod, effect v1.TaintEffect) []v1.Toleration {
	var all []v1.Toleration
	for _, t := range p.Spec.Tolerations {
		if t.Effect == "" || t.Effect == effect {
			all = append(all, t)
		}
	}
	return all
}

// preferNoSchedule counts the node's taints that the pod had better avoid.
func preferNoSchedule(node *v1.Node, tolerations []v1.Toleration) int64 {
	var n int64
	for i := range node.Spec.Taints {
		if taint := &node.Spec.Taints[i]; taint.Effect == v1.TaintEffectPreferNoSchedule && !tolerates(tolerations, taint) {
			n++
		}
	}
	return n
}

func preferredTerms(p *v1.Pod) *nodeaffinity.PreferredSchedulingTerms {
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil {
		return nil
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(p.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return nil
	}
	return terms
}

func scaled(n, most int64) int64 {
	if most == 0 {
		return 0
	}
	return n * 100 / most
}
