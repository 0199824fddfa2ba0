package eventsgen

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/reprise-run/reprise/events"
)

// Times that pass, in milliseconds.
const (
	second = 1000
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

type namespace struct{ object }

type node struct {
	object
	zone, ip  string
	actor     who
	pods      []*pod
	cordoned  bool
	down      bool
	images    int
	addresses int // given to pods so far
}

type backup struct {
	object
	runs int
}

const operator = "system:serviceaccount:backup-system:backup-operator"

var people = []string{"alice@example.org", "bob@example.org", "carol@example.org", "system:serviceaccount:delivery:pipeline", "kubernetes-admin"}

// found sets the cluster up: its namespaces and nodes. Then deployments come
// until there are pods enough, and from then on people and chance do their work.
func (g *Generator) found() {
	crd := &object{ref: events.Ref{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Name: "backups.storage.example.org"}, uid: g.uuid()}
	g.say(gate("kubernetes-admin"), 0, fact{typ: "customresourcedefinition.created", object: crd, data: crdTemplate.fill("uid", crd.uid, "time", g.stamp())})
	for i := range max(1, min(40, g.opts.Pods/250)) {
		g.after(int64(i)*second, func() { g.addNamespace(fmt.Sprintf("%s-%d", teams[i%len(teams)], i)) })
	}
	for i := range max(3, min(400, g.opts.Pods/50)) {
		g.after(int64(i)*200, func() { g.addNode(i) })
	}
	g.after(2*minute, g.grow)
}

var (
	teams = []string{"shop", "search", "billing", "media", "identity", "analytics", "logistics", "support"}
	nouns = []string{"frontend", "cart", "catalog", "worker", "api", "gateway", "indexer", "mailer", "reports", "scheduler", "cache", "exporter"}
)

func (g *Generator) addNamespace(name string) {
	n := &namespace{object{ref: events.Ref{Resource: "namespaces", Name: name}, uid: g.uuid()}}
	g.namespaces = append(g.namespaces, n)
	cause := g.say(gate("kubernetes-admin"), 0, fact{typ: "namespace.created", object: &n.object,
		data: namespaceTemplate.fill("ns", name, "uid", n.uid, "time", g.stamp())})
	for _, with := range []struct {
		typ, resource, name, by string
		template                *template
	}{
		{"serviceaccount.created", "serviceaccounts", "default", "service-account-controller", accountTemplate},
		{"configmap.created", "configmaps", "kube-root-ca.crt", "root-ca-cert-publisher", rootCATemplate},
	} {
		o := &object{ref: events.Ref{Resource: with.resource, Namespace: name, Name: with.name}, uid: g.uuid()}
		g.say(commands(with.by), cause, fact{typ: with.typ, object: o, data: with.template.fill("ns", name, "uid", o.uid, "time", g.stamp())})
	}
}

func (g *Generator) addNode(i int) {
	name := fmt.Sprintf("n%03d", i+1)
	n := &node{
		object: object{ref: events.Ref{Resource: "nodes", Name: name}, uid: g.uuid()},
		zone:   "eu-west-" + string("abc"[i%3]), ip: fmt.Sprintf("10.0.%d.%d", i/250, i%250+2), images: 1,
		actor: who{actor: events.Actor{Kind: "node", Name: name, Version: version}},
	}
	g.nodes = append(g.nodes, n)
	g.say(n.actor, 0, fact{typ: "node.registered", object: &n.object,
		data: nodeTemplate.fill("name", name, "uid", n.uid, "time", g.stamp(), "zone", n.zone, "ip", n.ip, "short", n.uid[24:])})
	g.after(g.rarely(day), func() { g.observe(n) })
	g.after(g.rarely(20*day), func() { g.lose(n) })
}

// observe has a node report its images: once a day there is one more, until old
// ones are dropped.
func (g *Generator) observe(n *node) {
	image := `{"names":["registry.example.org/` + pick(&g.random, nouns) + ":" + g.hex(8) + `"],"sizeBytes":` + strconv.Itoa(10_000_000+g.below(90_000_000)) + `}`
	ops := []string{"add", "/status/images/1", image}
	if n.images++; n.images > 25 {
		ops = append(ops, "remove", "/status/images/25", "")
		n.images--
	}
	g.say(n.actor, 0, fact{typ: "node.observed", object: &n.object, data: patch(ops...)})
	g.after(g.rarely(day), func() { g.observe(n) })
}

// lose takes a node off the network for some minutes.
func (g *Generator) lose(n *node) {
	n.down = true
	lifecycle := controller("nodelifecycle")
	cause := g.say(lifecycle, 0, fact{typ: "node.lost", object: &n.object, data: g.readiness("Unknown", "NodeStatusUnknown", "the node has not been heard for 40s")})
	taint := `[{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"` + g.stamp() + `"}]`
	g.say(lifecycle, cause, fact{typ: "node.tainted", object: &n.object, data: patch("add", "/spec/taints", taint)})
	for _, p := range slices.Clone(n.pods) {
		if p.ready {
			g.unready(p, lifecycle, cause)
		}
	}
	g.after(g.around(2*minute), func() {
		n.down = false
		cause := g.say(n.actor, 0, fact{typ: "node.ready", object: &n.object, data: g.readiness("True", "NodeReady", "the node runs pods")})
		g.say(lifecycle, cause, fact{typ: "node.tainted", object: &n.object, data: patch("remove", "/spec/taints", "")})
		for _, p := range slices.Clone(n.pods) {
			if p.running[0] && !p.ready && !p.terminating {
				g.readied(p, cause)
			}
		}
	})
	g.after(g.rarely(20*day), func() { g.lose(n) })
}

func (g *Generator) readiness(status, reason, message string) []byte {
	return patch("replace", "/status/conditions/3", `{"lastHeartbeatTime":"`+g.stamp()+`","lastTransitionTime":"`+g.stamp()+
		`","message":"`+message+`","reason":"`+reason+`","status":"`+status+`","type":"Ready"}`)
}

// drain empties a node for a while, as a person does before maintenance.
func (g *Generator) drain(person who) {
	n := pick(&g.random, g.nodes)
	if n.cordoned || n.down {
		return
	}
	n.cordoned = true
	g.say(person, 0, fact{typ: "node.cordoned", object: &n.object, data: patch("add", "/spec/unschedulable", "true")})
	for i, p := range slices.Clone(n.pods) {
		g.after(int64(i+1)*700, func() { g.terminate(p, person, 0) })
	}
	g.after(g.around(20*minute), func() {
		n.cordoned = false
		g.say(person, 0, fact{typ: "node.uncordoned", object: &n.object, data: patch("remove", "/spec/unschedulable", "")})
	})
}

// place chooses a node as a scheduler would: of some that take pods, that with
// the fewest.
func (g *Generator) place() (best, second, third *node) {
	var of [3]*node
	for i, tries := 0, 0; i < len(of); tries++ {
		n := pick(&g.random, g.nodes)
		if tries < 50 && (n.cordoned || n.down) {
			continue
		}
		of[i] = n
		i++
	}
	slices.SortStableFunc(of[:], func(a, b *node) int { return len(a.pods) - len(b.pods) })
	return of[0], of[1], of[2]
}

// backUp makes a custom object, whose operator then reports now and then.
func (g *Generator) backUp(person who) {
	ns := pick(&g.random, g.namespaces)
	b := &backup{object: object{ref: events.Ref{Group: "storage.example.org", Resource: "backups", Namespace: ns.ref.Name, Name: "nightly-" + g.letters(5)}, uid: g.uuid()}}
	g.backups = append(g.backups, b)
	cause := g.say(person, 0, fact{typ: "backup.created", object: &b.object,
		data: backupTemplate.fill("app", b.ref.Name, "ns", b.ref.Namespace, "uid", b.uid, "time", g.stamp())})
	g.after(g.around(minute), func() { g.report(b, cause) })
	if len(g.backups) > 60 {
		oldest := g.backups[0]
		g.backups = slices.Delete(g.backups, 0, 1)
		g.remove(person, 0, "backup.deleted", &oldest.object)
	}
}

func (g *Generator) report(b *backup, cause uint64) {
	if b.gone {
		return
	}
	b.runs++
	next := g.say(gate(operator), cause, fact{typ: "backup.status-updated", object: &b.object, data: patch(
		"replace", "/status/lastRun", quote(g.stamp()), "replace", "/status/runs", strconv.Itoa(b.runs), "replace", "/status/size", strconv.Itoa(g.below(1<<30)))})
	g.after(g.around(hour), func() { g.report(b, next) })
}

// rarely is a time until something befalls one of many: in a smaller cluster with
// a shorter log it comes sooner, so that the log has some of everything.
func (g *Generator) rarely(ms int64) int64 { return g.around(ms * int64(g.opts.Pods) / 12_000) }
