package eventsgen

import (
	"slices"
	"strconv"

	"github.com/reprise-run/reprise/events"
)

type deployment struct {
	object
	config, secret *object
	replicas       int
	containers     int
	version        int // counts its templates
	generation     int
	revision       int
	current        *replicaSet
	old            []*replicaSet
	shown          status
	dirty          bool
	cause          uint64 // of the step to come
}

type replicaSet struct {
	object
	of       *deployment
	version  int
	hash     string
	image    string
	replicas int
	coming   int // pods that are about to be created
	pods     []*pod
	shown    status
	dirty    bool
	cause    uint64
}

// status is what a controller has last reported, by the names of its members.
type status struct {
	names  []string
	counts []int
}

// report returns the operations that bring a status up to date.
func (s *status) report(names []string, counts []int) []string {
	var ops []string
	if s.counts == nil {
		whole := ""
		for i, name := range names {
			whole += `,"` + name + `":` + strconv.Itoa(counts[i])
		}
		ops = []string{"replace", "/status", "{" + whole[1:] + "}"}
	}
	for i := range s.counts {
		if s.counts[i] != counts[i] {
			ops = append(ops, "replace", "/status/"+names[i], strconv.Itoa(counts[i]))
		}
	}
	s.names, s.counts = names, counts
	return ops
}

func (d *deployment) nextGeneration() string {
	d.generation++
	return strconv.Itoa(d.generation)
}

func (d *deployment) image() string {
	return "registry.example.org/" + d.ref.Namespace + "/" + d.ref.Name + ":v" + strconv.Itoa(d.version)
}

func (d *deployment) labels(hash string) string {
	labels := `{"app.kubernetes.io/name":"` + d.ref.Name + `","app.kubernetes.io/part-of":"` + d.ref.Namespace + `"`
	if hash != "" {
		labels += `,"pod-template-hash":"` + hash + `"`
	}
	return labels + "}"
}

// template is the pod template of a deployment as it is now.
func (g *Generator) template(d *deployment, labels string) string {
	return string(podSpecTemplate.fill("app", d.ref.Name, "labels", labels, "containers", containers(d, d.image(), "")))
}

// containers are those of a deployment's template, or of a pod: that has a volume
// with its token beside, which the gate has put into it.
func containers(d *deployment, image, token string) string {
	mounts := `[{"mountPath":"/etc/` + d.ref.Name + `","name":"config","readOnly":true}`
	if token != "" {
		mounts += `,{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access-` + token + `","readOnly":true}`
	}
	all := "["
	for i := range d.containers {
		if i > 0 {
			all += ","
			image = "registry.example.org/base/" + containerNames[i] + ":1.29"
		}
		all += string(containerTemplate.fill("name", containerNames[i], "image", image, "app", d.ref.Name, "memory", "256Mi", "cpu", "100m", "mounts", mounts+"]"))
	}
	return all + "]"
}

var containerNames = []string{"main", "sidecar"}

// reconcile takes a deployment a step towards what is asked of it.
func (g *Generator) reconcile(d *deployment, cause uint64) {
	if d.gone {
		return
	}
	if d.current == nil || d.current.version != d.version {
		cause = g.revise(d, cause)
	}
	surge, total, ready := (d.replicas+3)/4, d.current.replicas, d.current.ready()
	for _, rs := range d.old {
		total += rs.replicas
		ready += rs.ready()
	}
	to := min(d.replicas, d.current.replicas+max(0, d.replicas+surge-total))
	if len(d.old) == 0 || d.oldReplicas() == 0 {
		to = d.replicas
	}
	g.resize(d.current, to, cause)
	spare := ready - (d.replicas - d.replicas/4)
	for _, rs := range d.old {
		if rs.replicas == 0 || d.current.ready() == 0 {
			continue
		}
		less := min(rs.replicas, max(spare, 0))
		if d.current.ready() >= d.replicas {
			less = rs.replicas
		}
		spare -= less
		g.resize(rs, rs.replicas-less, cause)
	}
	g.showDeployment(d, cause)
}

func (d *deployment) oldReplicas() int {
	n := 0
	for _, rs := range d.old {
		n += rs.replicas
	}
	return n
}

func (rs *replicaSet) ready() int {
	n := 0
	for _, p := range rs.pods {
		if p.ready && !p.terminating {
			n++
		}
	}
	return n
}

// revise makes the ReplicaSet of the deployment's template, and says so.
func (g *Generator) revise(d *deployment, cause uint64) uint64 {
	first := d.current == nil
	if !first {
		d.old = append(d.old, d.current)
	}
	d.revision++
	hash := g.letters(10)
	rs := &replicaSet{of: d, version: d.version, hash: hash, image: d.image(), replicas: (d.replicas + 3) / 4}
	if first {
		rs.replicas = d.replicas
	}
	rs.object = object{ref: events.Ref{Group: "apps", Resource: "replicasets", Namespace: d.ref.Namespace, Name: d.ref.Name + "-" + hash}, uid: g.uuid()}
	d.current = rs
	labels := d.labels(hash)
	made := g.say(commands("deployment-controller"), cause, fact{typ: "replicaset.created", object: &rs.object, data: replicaSetTemplate.fill(
		"name", rs.ref.Name, "ns", rs.ref.Namespace, "uid", rs.uid, "time", g.stamp(), "labels", labels, "app", d.ref.Name, "owner", d.uid,
		"desired", strconv.Itoa(d.replicas), "most", strconv.Itoa(d.replicas+(d.replicas+3)/4), "revision", strconv.Itoa(d.revision),
		"replicas", strconv.Itoa(rs.replicas), "template", g.template(d, labels))})
	revised := g.say(controller("deployment"), made, fact{typ: "deployment.revised", object: &d.object, data: patch(
		"add", "/metadata/annotations/deployment.kubernetes.io~1revision", quote(strconv.Itoa(d.revision)))})
	g.after(g.around(10), func() { g.sync(rs, made) })
	for len(d.old) > 3 && d.old[0].replicas == 0 && len(d.old[0].pods) == 0 {
		g.remove(commands("deployment-controller"), revised, "replicaset.deleted", &d.old[0].object)
		d.old = slices.Delete(d.old, 0, 1)
	}
	return revised
}

func (g *Generator) resize(rs *replicaSet, to int, cause uint64) {
	if to == rs.replicas || rs.gone {
		return
	}
	rs.replicas = to
	scaled := g.say(controller("deployment"), cause, fact{typ: "replicaset.scaled", object: &rs.object, data: patch(
		"replace", "/metadata/annotations/deployment.kubernetes.io~1desired-replicas", quote(strconv.Itoa(rs.of.replicas)),
		"replace", "/spec/replicas", strconv.Itoa(to))})
	g.after(g.around(10), func() { g.sync(rs, scaled) })
}

// sync has a ReplicaSet create the pods that it lacks, or delete those too many.
func (g *Generator) sync(rs *replicaSet, cause uint64) {
	if rs.gone {
		return
	}
	var alive []*pod
	for _, p := range rs.pods {
		if !p.terminating {
			alive = append(alive, p)
		}
	}
	for i := range rs.replicas - len(alive) - rs.coming {
		rs.coming++
		g.after(int64(i+1)*3, func() { g.createPod(rs, cause) })
	}
	// Those that are not ready go first.
	slices.SortStableFunc(alive, func(a, b *pod) int { return rank(a) - rank(b) })
	for i := range len(alive) + rs.coming - rs.replicas {
		if i < len(alive) {
			g.terminate(alive[i], commands("replicaset-controller"), cause)
		}
	}
}

func rank(p *pod) int {
	if p.ready {
		return 1
	}
	return 0
}

// touch has the controllers look at a ReplicaSet soon, once for all that happens
// until then.
func (g *Generator) touch(rs *replicaSet, cause uint64) {
	rs.cause = cause
	if rs.dirty || rs.gone {
		return
	}
	rs.dirty = true
	g.after(g.around(800), func() {
		rs.dirty = false
		if rs.gone {
			return
		}
		names := []string{"availableReplicas", "fullyLabeledReplicas", "observedGeneration", "readyReplicas", "replicas"}
		ops := rs.shown.report(names, []int{rs.ready(), len(rs.pods), 1, rs.ready(), len(rs.pods)})
		if len(ops) > 0 {
			g.say(controller("replicaset"), rs.cause, fact{typ: "replicaset.observed", object: &rs.object, data: patch(ops...)})
		}
		g.sync(rs, rs.cause)
		g.touchDeployment(rs.of, rs.last)
	})
}

func (g *Generator) touchDeployment(d *deployment, cause uint64) {
	d.cause = cause
	if d.dirty || d.gone {
		return
	}
	d.dirty = true
	g.after(g.around(400), func() {
		d.dirty = false
		g.reconcile(d, d.cause)
	})
}

func (g *Generator) showDeployment(d *deployment, cause uint64) {
	total, ready := len(d.current.pods), d.current.ready()
	for _, rs := range d.old {
		total += len(rs.pods)
		ready += rs.ready()
	}
	names := []string{"availableReplicas", "observedGeneration", "readyReplicas", "replicas", "unavailableReplicas", "updatedReplicas"}
	ops := d.shown.report(names, []int{ready, d.generation, ready, total, max(0, d.replicas-ready), len(d.current.pods)})
	if len(ops) > 0 {
		g.say(controller("deployment"), cause, fact{typ: "deployment.observed", object: &d.object, data: patch(ops...)})
	}
}
