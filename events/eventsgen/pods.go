package eventsgen

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/reprise-run/reprise/events"
)

type pod struct {
	object
	set         *replicaSet
	node        *node
	sandboxed   bool
	running     [2]bool
	ids         [2]string // of the containers
	since       [2]string // when they were started
	restarts    [2]int
	ready       bool
	terminating bool
}

// createPod makes a pod, which then goes its way: bound, sandboxed, its
// containers started, ready.
func (g *Generator) createPod(rs *replicaSet, cause uint64) {
	rs.coming--
	if rs.gone {
		return
	}
	p := &pod{set: rs, object: object{
		ref: events.Ref{Resource: "pods", Namespace: rs.ref.Namespace, Name: rs.ref.Name + "-" + g.letters(5)}, uid: g.uuid(),
	}}
	if slices.ContainsFunc(rs.pods, func(o *pod) bool { return o.ref == p.ref }) {
		p.ref.Name += "x"
	}
	rs.pods = append(rs.pods, p)
	short := g.letters(5)
	made := g.say(commands("replicaset-controller"), cause, fact{typ: "pod.created", object: &p.object, data: podTemplate.fill(
		"name", p.ref.Name, "set", rs.ref.Name, "setuid", rs.uid, "ns", p.ref.Namespace, "uid", p.uid, "time", g.stamp(),
		"app", rs.of.ref.Name, "hash", rs.hash, "short", short, "containers", containers(rs.of, rs.image, short))})
	g.touch(rs, made)
	g.after(g.around(40), func() { g.bind(p, made) })
}

var unschedulable = patch("add", "/status/conditions", `[{"lastProbeTime":null,"lastTransitionTime":null,"message":"0/40 nodes are available: 40 Insufficient cpu.","reason":"Unschedulable","status":"False","type":"PodScheduled"}]`)

func (g *Generator) bind(p *pod, cause uint64) {
	if p.gone || p.terminating {
		return
	}
	scheduler := who{actor: events.Actor{Kind: "scheduler", Version: version}}
	if g.below(200) == 0 && p.last == cause {
		next := g.say(scheduler, cause, fact{typ: "pod.unschedulable", object: &p.object, data: unschedulable,
			note: []byte(`{"feasible":0,"nodes":40,"refused":{"Insufficient cpu":40}}`)})
		g.after(g.around(20*second), func() { g.bind(p, next) })
		return
	}
	n, second, third := g.place()
	p.node = n
	n.pods = append(n.pods, p)
	score := func() string { return strconv.Itoa(g.below(100)) }
	refused := g.below(len(g.nodes))
	bound := g.say(scheduler, cause, fact{typ: "pod.bound", object: &p.object,
		data: scheduledPatch.fill("zone", n.zone, "node", n.ref.Name, "time", g.stamp()),
		note: scoresNote.fill("a", score(), "b", score(), "c", score(), "d", score(), "e", score(), "f", score(), "g", score(), "h", score(), "i", score(),
			"node", n.ref.Name, "second", second.ref.Name, "third", third.ref.Name,
			"feasible", strconv.Itoa(len(g.nodes)-refused), "nodes", strconv.Itoa(len(g.nodes)), "refused", strconv.Itoa(refused))})
	g.after(g.around(400), func() { g.sandbox(p, bound) })
}

func (g *Generator) sandbox(p *pod, cause uint64) {
	if p.gone || p.terminating {
		return
	}
	p.sandboxed = true
	p.node.addresses++
	statuses := "["
	for i := range p.set.of.containers {
		if i > 0 {
			statuses += ","
		}
		statuses += string(waitingTemplate.fill("name", containerNames[i], "image", p.set.image))
	}
	made := g.say(p.node.actor, cause, fact{typ: "pod.sandboxed", object: &p.object, data: sandboxedPatch.fill("time", g.stamp(),
		"statuses", statuses+"]", "hostip", p.node.ip, "ip", fmt.Sprintf("10.%d.%d.%d", 100+p.node.addresses/62500%100, p.node.addresses/250%250, p.node.addresses%250+2))})
	for i := range p.set.of.containers {
		g.after(g.around(600)+int64(i)*200, func() { g.start(p, i, made) })
	}
}

// start starts a container; with the last of them the pod will be ready.
func (g *Generator) start(p *pod, i int, cause uint64) {
	if p.gone || p.terminating {
		return
	}
	p.running[i], p.ids[i], p.since[i] = true, g.hex(64), g.stamp()
	started := g.say(p.node.actor, cause, fact{typ: "container.started", object: &p.object, data: startedPatch.fill("n", strconv.Itoa(i),
		"id", p.ids[i], "image", p.set.image, "digest", g.hex(64), "restarts", strconv.Itoa(p.restarts[i]), "time", p.since[i])})
	if p.set.of.containers == 1 || p.running[0] && p.running[1] {
		g.after(g.around(4*second), func() {
			if p.running[0] && !p.ready && !p.node.down {
				g.readied(p, started)
			}
		})
	}
}

func (g *Generator) readied(p *pod, cause uint64) {
	if p.gone || p.terminating {
		return
	}
	p.ready = true
	g.touch(p.set, g.say(p.node.actor, cause, fact{typ: "pod.ready", object: &p.object, data: readiedPatch.fill("time", g.stamp())}))
	g.after(g.rarely(6*day), func() { g.mishap(p) })
}

func (g *Generator) unready(p *pod, by who, cause uint64) uint64 {
	p.ready = false
	data := unreadiedPatch
	if by.actor.Kind == "controller" {
		data = lostPatch
	}
	said := g.say(by, cause, fact{typ: "pod.unready", object: &p.object, data: data.fill("time", g.stamp())})
	g.touch(p.set, said)
	return said
}

// mishap is what befalls a pod now and then: a container crashes, or a probe
// fails for a while.
func (g *Generator) mishap(p *pod) {
	if p.gone || p.terminating || !p.ready {
		return
	}
	if g.below(3) == 0 {
		cause := g.unready(p, p.node.actor, 0)
		g.after(g.around(20*second), func() {
			if p.running[0] && !p.ready {
				g.readied(p, cause)
			}
		})
		return
	}
	p.ready, p.running[0] = false, false
	code, reason := "137", "OOMKilled"
	if g.below(2) == 0 {
		code, reason = "1", "Error"
	}
	p.restarts[0]++
	cause := g.say(p.node.actor, 0,
		fact{typ: "container.exited", object: &p.object, data: g.exit(p, 0, code, reason)},
		fact{typ: "pod.unready", object: &p.object, data: unreadiedPatch.fill("time", g.stamp())})
	g.touch(p.set, cause)
	pause := int64(1 + g.below(3)*10)
	g.after(second, func() {
		if p.gone || p.terminating {
			return
		}
		waits := g.say(p.node.actor, cause, fact{typ: "container.waiting", object: &p.object,
			data: backoffPatch.fill("n", "0", "pause", strconv.Itoa(int(pause))+"s", "name", p.ref.Name, "ns", p.ref.Namespace)})
		g.after(pause*second, func() { g.start(p, 0, waits) })
	})
}

func (g *Generator) exit(p *pod, i int, code, reason string) []byte {
	return exitedPatch.fill("n", strconv.Itoa(i), "id", p.ids[i], "code", code, "reason", reason, "started", p.since[i], "time", g.stamp())
}

// terminate has a pod end: its containers exit and it is removed from its node.
func (g *Generator) terminate(p *pod, by who, cause uint64) {
	if p.gone || p.terminating {
		return
	}
	p.terminating, p.ready = true, false
	if p.node == nil {
		g.bury(p, g.remove(by, cause, "pod.deleted", &p.object))
		return
	}
	ends := g.say(by, cause, fact{typ: "pod.terminating", object: &p.object, data: patch(
		"add", "/metadata/deletionGracePeriodSeconds", "30", "add", "/metadata/deletionTimestamp", quote(g.stamp()),
		"replace", "/metadata/generation", "2")})
	g.touch(p.set, ends)
	g.after(g.around(1500), func() {
		cause := ends
		for i, running := range p.running {
			if running {
				p.running[i] = false
				cause = g.say(p.node.actor, ends, fact{typ: "container.exited", object: &p.object, data: g.exit(p, i, "0", "Completed")})
			}
		}
		g.after(g.around(150), func() { g.bury(p, g.remove(p.node.actor, cause, "pod.removed", &p.object)) })
	})
}

// bury forgets a pod that is gone.
func (g *Generator) bury(p *pod, cause uint64) {
	is := func(o *pod) bool { return o == p }
	p.set.pods = slices.DeleteFunc(p.set.pods, is)
	if p.node != nil {
		p.node.pods = slices.DeleteFunc(p.node.pods, is)
	}
	g.touch(p.set, cause)
}
