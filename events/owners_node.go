package events

// A node speaks of itself and of the pods that are bound to it.
var nodeRules = []Rule{
	{Type: "node.registered", Resource: "nodes", Effect: Creates, Writers: nodeWriters,
		Doc: "A node joined the cluster and said what it is."},
	{Type: "node.ready", Resource: "nodes", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "The node can run pods again, by its own account."},
	{Type: "node.unready", Resource: "nodes", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "The node cannot run pods for now, and says why in its Ready condition."},
	{Type: "node.observed", Resource: "nodes", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "Something else changed about the node: its addresses, capacity, conditions or versions."},

	{Type: "pod.sandboxed", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "The pod got its sandbox: its network namespace and addresses."},
	{Type: "container.waiting", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "A container cannot run yet; its status says why, such as ImagePullBackOff or CrashLoopBackOff."},
	{Type: "container.started", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "A container's process was started; a restart is a new attempt, counted in restartCount."},
	{Type: "container.exited", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "A container's process ended, with the exit code, signal and reason in its status."},
	{Type: "pod.ready", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "All the pod's containers and readiness gates are ready: it may be sent requests."},
	{Type: "pod.unready", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "The pod was ready and no longer is."},
	{Type: "pod.succeeded", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "All the pod's containers ended well and none will be restarted. It is final."},
	{Type: "pod.failed", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "The pod's containers have ended, at least one badly, and none will be restarted. It is final."},
	{Type: "pod.observed", Resource: "pods", Effect: Changes, Writers: nodeWriters, Paths: statusPath,
		Doc: "Something else changed in what the node reports about the pod."},
	{Type: "pod.removed", Resource: "pods", Effect: Removes, Writers: nodeWriters,
		Doc: "The pod was to be deleted, and all that ran of it is gone from its node."},

	{Type: "lease.renewed", Resource: "leases.coordination.k8s.io", Effect: Puts, Writers: nodeWriters, Optional: true,
		Doc: "The node is alive. Not part of the history."},
	{Type: "event.recorded", Resource: "events", Effect: Puts, Writers: nodeWriters, Optional: true,
		Doc: "A Kubernetes Event, a note for people about what the node does. Not part of the history."},
}

var (
	nodeWriters = []string{"node:*"}
	statusPath  = []string{"/status"}
)
