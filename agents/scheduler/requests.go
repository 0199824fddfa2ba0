package scheduler

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// amounts is how much of each resource there is, or is asked for. CPU is in
// thousandths of a core, the others in bytes or pieces.
type amounts struct {
	cpu, memory, storage int64
	others               map[v1.ResourceName]int64
}

// request is what one pod takes up on its node.
type request struct {
	amounts
	// cpuScore and memoryScore count containers that ask for nothing as if they
	// asked for a little, so that scores spread those too.
	cpuScore, memoryScore int64
	ports                 []port
}

// port is a port of the node that a container takes for itself.
type port struct {
	ip       string
	protocol v1.Protocol
	number   int32
}

// What a container without requests counts for in scores, as in kube-scheduler.
var (
	littleCPU    = *resource.NewMilliQuantity(100, resource.DecimalSI)
	littleMemory = *resource.NewQuantity(200<<20, resource.DecimalSI)
)

// requestsOf adds up a pod's containers, init containers, sidecars and overhead.
func requestsOf(p *v1.Pod) request {
	options := resourcehelper.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
	asked := resourcehelper.PodRequests(p, options)
	r := request{amounts: amountsOf(asked), ports: portsOf(p)}
	options.NonMissingContainerRequests = v1.ResourceList{v1.ResourceCPU: littleCPU, v1.ResourceMemory: littleMemory}
	if resourcehelper.IsPodLevelRequestsSet(p) {
		for name := range asked {
			delete(options.NonMissingContainerRequests, name)
		}
	}
	scored := resourcehelper.PodRequests(p, options)
	r.cpuScore, r.memoryScore = scored.Cpu().MilliValue(), scored.Memory().Value()
	return r
}

func (r request) differ(o request) bool {
	return r.cpu != o.cpu || r.memory != o.memory || r.storage != o.storage || !maps.Equal(r.others, o.others)
}

// asksAlike says whether two pods are seen at once to take up the same: they ask for the
// same, and their node says nothing of it. Most changes are of a status, most pods are from
// a template, and adding up costs more than all else that is done about them.
func asksAlike(a, b *v1.Pod) bool {
	return slices.EqualFunc(a.Spec.Containers, b.Spec.Containers, containersAskAlike) &&
		slices.EqualFunc(a.Spec.InitContainers, b.Spec.InitContainers, containersAskAlike) &&
		a.Spec.Resources == b.Spec.Resources &&
		len(a.Spec.Overhead)+len(b.Spec.Overhead) == 0 && !isResized(&a.Status) && !isResized(&b.Status)
}

// containersAskAlike says whether two containers take up the same of what their pod runs on.
func containersAskAlike(a, b v1.Container) bool {
	return maps.EqualFunc(a.Resources.Requests, b.Resources.Requests, resource.Quantity.Equal) &&
		slices.Equal(a.Ports, b.Ports) && (a.RestartPolicy == b.RestartPolicy ||
		a.RestartPolicy != nil && b.RestartPolicy != nil && *a.RestartPolicy == *b.RestartPolicy)
}

// isResized says whether a status tells of resources, which then count.
func isResized(s *v1.PodStatus) bool {
	told := func(c v1.ContainerStatus) bool { return c.Resources != nil || c.AllocatedResources != nil }
	return s.Resources != nil || s.AllocatedResources != nil || slices.ContainsFunc(s.ContainerStatuses, told) || slices.ContainsFunc(s.InitContainerStatuses, told)
}

func amountsOf(list v1.ResourceList) amounts {
	var a amounts
	for name, q := range list {
		switch name {
		case v1.ResourceCPU:
			a.cpu = q.MilliValue()
		case v1.ResourceMemory:
			a.memory = q.Value()
		case v1.ResourceEphemeralStorage:
			a.storage = q.Value()
		case v1.ResourcePods:
		default:
			if a.others == nil {
				a.others = map[v1.ResourceName]int64{}
			}
			a.others[name] = q.Value()
		}
	}
	return a
}

// add returns a plus b; a's map is not touched.
func (a amounts) add(b amounts) amounts {
	sum := amounts{cpu: a.cpu + b.cpu, memory: a.memory + b.memory, storage: a.storage + b.storage, others: a.others}
	if len(b.others) > 0 {
		sum.others = maps.Clone(a.others)
		if sum.others == nil {
			sum.others = map[v1.ResourceName]int64{}
		}
		for name, n := range b.others {
			sum.others[name] += n
		}
	}
	return sum
}

// subtract returns a less b, which was added before; a's map is not touched.
func (a amounts) subtract(b amounts) amounts {
	rest := amounts{cpu: a.cpu - b.cpu, memory: a.memory - b.memory, storage: a.storage - b.storage, others: a.others}
	if len(b.others) > 0 {
		rest.others = maps.Clone(a.others)
		for name, n := range b.others {
			if rest.others[name] -= n; rest.others[name] == 0 {
				delete(rest.others, name)
			}
		}
	}
	return rest
}

func portsOf(p *v1.Pod) []port {
	var all []port
	add := func(containers []v1.Container) {
		for i := range containers {
			for _, cp := range containers[i].Ports {
				if cp.HostPort > 0 {
					all = append(all, newPort(cp))
				}
			}
		}
	}
	add(p.Spec.Containers)
	for i := range p.Spec.InitContainers {
		if always := p.Spec.InitContainers[i].RestartPolicy; always != nil && *always == v1.ContainerRestartPolicyAlways {
			add(p.Spec.InitContainers[i : i+1])
		}
	}
	return all
}

func newPort(cp v1.ContainerPort) port {
	p := port{ip: cp.HostIP, protocol: cp.Protocol, number: cp.HostPort}
	if p.ip == "" {
		p.ip = anyIP
	}
	if p.protocol == "" {
		p.protocol = v1.ProtocolTCP
	}
	return p
}

// anyIP is the address that takes a port on all of the node's addresses.
const anyIP = "0.0.0.0"

func (p port) conflicts(o port) bool {
	return p.number == o.number && p.protocol == o.protocol && (p.ip == o.ip || p.ip == anyIP || o.ip == anyIP)
}

// Requests is how much CPU, in thousandths of a core, and memory, in bytes, a pod
// takes up on its node.
func Requests(p *v1.Pod) (cpu, memory int64) {
	r := requestsOf(p)
	return r.cpu, r.memory
}
