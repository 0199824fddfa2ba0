package eventsgen

import (
	"slices"
	"strconv"

	"github.com/reprise-run/reprise/events"
)

// grow adds a deployment until they ask for as many pods as there are to be.
func (g *Generator) grow() {
	if g.wanted >= g.opts.Pods {
		g.after(g.around(5*minute), g.person)
		return
	}
	g.deploy(gate(pick(&g.random, people)))
	g.after(g.around(5*second), g.grow)
}

// person does one thing that people do, and makes an appointment for the next.
func (g *Generator) person() {
	who := gate(pick(&g.random, people))
	few, many := g.wanted < g.opts.Pods, g.wanted > g.opts.Pods+g.opts.Pods/12
	if chance := g.below(100); few || chance < 8 {
		g.deploy(who)
	} else if d := pick(&g.random, g.deployments); many || chance < 14 {
		g.undeploy(d, who)
	} else {
		g.change(d, who, chance)
	}
	g.after(g.around(5*minute), g.person)
}

// change has a person change something about a deployment, or beside it.
func (g *Generator) change(d *deployment, person who, chance int) {
	switch {
	case chance < 50:
		d.version++
		cause := g.say(person, 0, fact{typ: "deployment.image-changed", object: &d.object, data: patch(
			"replace", "/metadata/generation", d.nextGeneration(),
			"replace", "/metadata/managedFields/0/time", quote(g.stamp()),
			"replace", "/spec/template/spec/containers/0/image", quote(d.image()))})
		g.after(g.around(20), func() { g.reconcile(d, cause) })
	case chance < 54:
		d.version++
		cause := g.say(person, 0, fact{typ: "deployment.template-changed", object: &d.object, data: patch(
			"replace", "/metadata/generation", d.nextGeneration(),
			"add", "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt", quote(g.stamp()))})
		g.after(g.around(20), func() { g.reconcile(d, cause) })
	case chance < 74:
		g.scale(d, person)
	case chance < 84:
		g.say(person, 0, fact{typ: "configmap.data-changed", object: d.config, data: patch(
			"replace", "/data/revision", quote(g.hex(7)))})
	case chance < 88:
		g.say(person, 0, fact{typ: "secret.data-changed", object: d.secret, data: patch(
			"replace", "/data/password", quote(g.sealed()))})
	case chance < 94:
		g.say(person, 0, fact{typ: "deployment.annotated", object: &d.object, data: patch(
			"add", "/metadata/annotations/example.org~1reviewed", quote(g.stamp()))})
	case chance < 95:
		g.drain(person)
	default:
		g.backUp(person)
	}
}

func (g *Generator) scale(d *deployment, person who) {
	to := d.replicas + 1 + g.below(d.replicas/2+1)
	if g.wanted > g.opts.Pods+g.opts.Pods/20 {
		to = max(1, d.replicas-1-g.below(d.replicas/2+1))
	}
	if to == d.replicas {
		return
	}
	g.wanted += to - d.replicas
	d.replicas = to
	cause := g.say(person, 0, fact{typ: "deployment.scaled", object: &d.object, data: patch(
		"replace", "/metadata/generation", d.nextGeneration(), "replace", "/spec/replicas", strconv.Itoa(to))})
	g.after(g.around(20), func() { g.reconcile(d, cause) })
}

// sizes are how many replicas deployments have: mostly few.
var sizes = []int{1, 2, 2, 3, 3, 3, 5, 5, 8, 10, 12, 20, 30, 40, 60, 120}

func (g *Generator) deploy(person who) {
	ns := pick(&g.random, g.namespaces).ref.Name
	g.apps++
	app := pick(&g.random, nouns) + "-" + strconv.Itoa(g.apps)
	d := &deployment{
		object: object{ref: events.Ref{Group: "apps", Resource: "deployments", Namespace: ns, Name: app}, uid: g.uuid()},
		config: &object{ref: events.Ref{Resource: "configmaps", Namespace: ns, Name: app}, uid: g.uuid()},
		secret: &object{ref: events.Ref{Resource: "secrets", Namespace: ns, Name: app}, uid: g.uuid()},
		// No deployment is larger than a quarter of the cluster.
		replicas: min(pick(&g.random, sizes), max(1, g.opts.Pods/4)), version: 1, generation: 1, containers: 1 + g.below(4)/3,
	}
	g.deployments = append(g.deployments, d)
	g.wanted += d.replicas
	g.say(person, 0, fact{typ: "configmap.created", object: d.config,
		data: configMapTemplate.fill("app", app, "ns", ns, "uid", d.config.uid, "time", g.stamp(), "revision", g.hex(7))})
	g.say(person, 0, fact{typ: "secret.created", object: d.secret,
		data: secretTemplate.fill("app", app, "ns", ns, "uid", d.secret.uid, "time", g.stamp(), "username", g.sealed(), "password", g.sealed())})
	cause := g.say(person, 0, fact{typ: "deployment.created", object: &d.object, data: deploymentTemplate.fill(
		"app", app, "ns", ns, "uid", d.uid, "time", g.stamp(), "replicas", strconv.Itoa(d.replicas), "template", g.template(d, d.labels("")))})
	g.after(g.around(20), func() { g.reconcile(d, cause) })
}

// sealed looks like a value that was encrypted before it was appended.
func (g *Generator) sealed() string { return "c2VhbGVk" + g.hex(64) }

// undeploy deletes a deployment and what belongs to it.
func (g *Generator) undeploy(d *deployment, person who) {
	g.deployments = slices.DeleteFunc(g.deployments, func(o *deployment) bool { return o == d })
	g.wanted -= d.replicas
	cause := g.remove(person, 0, "deployment.deleted", &d.object)
	g.remove(person, 0, "configmap.deleted", d.config)
	g.remove(person, 0, "secret.deleted", d.secret)
	garbage := commands("generic-garbage-collector")
	for _, rs := range append(slices.Clone(d.old), d.current) {
		if rs == nil {
			continue
		}
		g.after(g.around(50), func() {
			because := g.remove(garbage, cause, "replicaset.deleted", &rs.object)
			for i, p := range slices.Clone(rs.pods) {
				g.after(int64(i+1)*3, func() { g.terminate(p, garbage, because) })
			}
		})
	}
}
