package scheduler

import (
	"math/bits"

	v1 "k8s.io/api/core/v1"
)

// none is the index of no host, and the total of one that is refused.
const none = -1

// The weights of kube-scheduler's default profile.
const (
	taintsWeight   = 3
	affinityWeight = 2
	spreadWeight   = 2
	podsWeight     = 2
)

// pick returns the host with the highest score, none if all refuse. Among equals
// the one with the fewest pods is taken, and else the pod's hash decides.
func (c *class) pick(pod uint64) int {
	c.catchUp()
	best, most, hash := none, standing(none), uint64(0)
	for i, s := range c.standings {
		if s < most || s == none {
			continue
		}
		if h := mix(pod ^ c.memo.hashes[i]); s > most || h > hash {
			best, most, hash = i, s, h
		}
	}
	return best
}

// standing is a host's place in the order in which a class takes them: its total, and
// below that how few pods it has. None is that of a host that is refused.
type standing int64

// standingOf puts the two into one number, so that to go through all hosts for a pod is
// to read a list of numbers.
func standingOf(total, pods int64) standing {
	if total == none {
		return none
	}
	return standing(total<<podBits | (1<<podBits - 1 - min(pods, 1<<podBits-1)))
}

// podBits is how many bits tell how many pods a host has: more than a million make no
// difference. Above them there is room for totals with the greatest weights.
const podBits = 20

// catchUp looks again at the hosts for which pods were counted since the class looked last.
func (c *class) catchUp() {
	for ; c.seen < len(c.memo.recounted); c.seen++ {
		c.lookAgain(c.memo.recounted[c.seen])
	}
	c.ranking = c.totals
	if c.neighbours != nil {
		c.ranking = c.neighbours.rank(c)
		for i, total := range c.ranking {
			c.standings[i] = standingOf(total, c.memo.hosts[i].pods)
		}
	}
}

// lookAgain brings up to date how a host appears, after pods were bound to it.
func (c *class) lookAgain(i int) {
	l, h := &c.looks[i], &c.memo.hosts[i]
	if l.static != 0 {
		return
	}
	c.count(l.reasons, -1)
	l.reasons = c.refusal(h)
	c.count(l.reasons, 1)
	if l.reasons != 0 {
		c.totals[i], c.standings[i] = none, none
		return
	}
	l.fit = c.memo.policy.fitScore(h, &c.request)
	l.balanced = 0
	if c.request.cpu != 0 || c.request.memory != 0 {
		with := balance(h.used.cpu+c.request.cpu, h.used.memory+c.request.memory, h)
		without := balance(h.used.cpu, h.used.memory, h)
		l.balanced = 50 + (50+nearest(100*(with-without), whole))/2
	}
	p := c.memo.policy
	c.totals[i] = p.taints*l.taints + p.affinity*l.affinity + p.images*l.images + p.fit*l.fit + p.balanced*l.balanced
	c.standings[i] = standingOf(c.totals[i], h.pods)
}

// count adds n to the number of hosts refused for each reason.
func (c *class) count(r reasons, n int) {
	if r == 0 {
		c.feasible += n
		return
	}
	for ; r != 0; r &= r - 1 {
		c.refused[bits.TrailingZeros64(uint64(r))] += n
	}
}

// refusal returns the reasons that depend on what is bound to the host: a taken
// port, or else all resources that it lacks.
func (c *class) refusal(h *host) reasons {
	for _, p := range c.request.ports {
		for _, taken := range h.ports {
			if p.conflicts(taken) {
				return 1 << portTaken
			}
		}
	}
	var r reasons
	if h.pods+1 > h.maxPods {
		r |= 1 << tooManyPods
	}
	if c.request.cpu > 0 && c.request.cpu > h.allocatable.cpu-h.used.cpu {
		r |= 1 << noCPU
	}
	if c.request.memory > 0 && c.request.memory > h.allocatable.memory-h.used.memory {
		r |= 1 << noMemory
	}
	if c.request.storage > 0 && c.request.storage > h.allocatable.storage-h.used.storage {
		r |= 1 << noStorage
	}
	for n, name := range c.others {
		if c.request.others[name] > h.allocatable.others[name]-h.used.others[name] {
			r |= 1 << (others + n)
		}
	}
	return r
}

// left scores what remains of a resource, from 0 for nothing to 100 for all.
func left(taken, capacity int64) int64 {
	if capacity == 0 || taken > capacity {
		return 0
	}
	return (capacity - taken) * 100 / capacity
}

// present is how many of CPU and memory the host has, at least 1.
func present(h *host) int64 {
	if (h.allocatable.cpu == 0) != (h.allocatable.memory == 0) || h.allocatable.cpu == 0 {
		return 1
	}
	return 2
}

// whole is one in millionths: scores are computed in whole numbers, which are the
// same on every machine.
const whole = 1_000_000

// balance is one whole if CPU and memory are taken to the same degree, and half if
// all of one and nothing of the other is.
func balance(cpu, memory int64, h *host) int64 {
	if present(h) < 2 {
		return whole
	}
	a, b := share(cpu, h.allocatable.cpu), share(memory, h.allocatable.memory)
	return whole - max(a-b, b-a)/2
}

// nearest is n/by, rounded to the nearest whole number.
func nearest(n, by int64) int64 {
	if n < 0 {
		return -nearest(-n, by)
	}
	return (n + by/2) / by
}

// share is taken*whole/capacity, at most whole, without overflow.
func share(taken, capacity int64) int64 {
	if taken >= capacity {
		return whole
	}
	hi, lo := bits.Mul64(uint64(taken), uint64(whole))
	q, _ := bits.Div64(hi, lo, uint64(capacity))
	return int64(q)
}

// What an image must weigh to count, and what counts as much as it can, for each
// image of a pod.
const (
	imageLeast = 23 << 20
	imageMost  = 1000 << 20
)

// imageScore prefers hosts that have the pod's images, and less so the fewer
// hosts have them, for otherwise all its pods would end on one.
func imageScore(h *host, images []string, spread map[string]int64, hosts int) int64 {
	if len(images) == 0 {
		return 0
	}
	var sum int64
	for _, name := range images {
		if size, ok := h.images[name]; ok {
			sum += size * spread[name] / int64(hosts)
		}
	}
	most := int64(imageMost * len(images))
	return 100 * (min(max(sum, imageLeast), most) - imageLeast) / (most - imageLeast)
}

// imageSpread counts the hosts that have each image.
func imageSpread(hosts []host, images []string) map[string]int64 {
	spread := make(map[string]int64, len(images))
	for _, name := range images {
		if _, counted := spread[name]; counted {
			continue
		}
		spread[name] = 0
		for i := range hosts {
			if _, ok := hosts[i].images[name]; ok {
				spread[name]++
			}
		}
	}
	return spread
}

// imagesOf lists the images of a pod, one for each container and image volume.
func imagesOf(p *v1.Pod) []string {
	var all []string
	for i := range p.Spec.InitContainers {
		all = append(all, imageName(p.Spec.InitContainers[i].Image))
	}
	for i := range p.Spec.Containers {
		all = append(all, imageName(p.Spec.Containers[i].Image))
	}
	return append(all, imageVolumes(p)...)
}

func imageVolumes(p *v1.Pod) []string {
	var all []string
	for i := range p.Spec.Volumes {
		if image := p.Spec.Volumes[i].Image; image != nil {
			all = append(all, imageName(image.Reference))
		}
	}
	return all
}
