package events

// Controllers of workloads (Deployment and ReplicaSet), and of what befalls them
// when a node is lost.
var workloadRules = []Rule{
	{Type: "replicaset.observed", Resource: "replicasets.apps", Effect: Changes, Writers: replicaSetController,
		Paths: []string{"/status"}, Doc: "The count of its pods, by how far they are, is different now."},
	{Type: "pod.adopted", Resource: "pods", Effect: Changes, Writers: replicaSetController,
		Paths: []string{"/metadata/ownerReferences"}, Doc: "A pod without a controller that the ReplicaSet selects is its own now."},
	{Type: "pod.released", Resource: "pods", Effect: Changes, Writers: replicaSetController,
		Paths: []string{"/metadata/ownerReferences"}, Doc: "A pod that the ReplicaSet no longer selects is not its own any more."},

	{Type: "deployment.observed", Resource: "deployments.apps", Effect: Changes, Writers: deploymentController,
		Paths: []string{"/status"}, Doc: "How far its rollout is, is different now."},
	{Type: "deployment.collided", Resource: "deployments.apps", Effect: Changes, Writers: deploymentController,
		Paths: []string{"/status"}, Doc: "Another ReplicaSet bears the name that its next one would get, so that one will get another."},
	{Type: "deployment.revised", Resource: "deployments.apps", Effect: Changes, Writers: deploymentController,
		Paths: []string{"/metadata/annotations", "/status"}, Doc: "Its template is that of another revision now."},
	{Type: "replicaset.scaled", Resource: "replicasets.apps", Effect: Changes, Writers: deploymentController,
		Paths: []string{"/spec/replicas", "/metadata/annotations"}, Needs: "replace /spec/replicas", Doc: "Its Deployment gave it another share of the replicas."},
	{Type: "replicaset.revised", Resource: "replicasets.apps", Effect: Changes, Writers: deploymentController,
		Paths: []string{"/metadata/annotations", "/spec/minReadySeconds"}, Doc: "It follows its Deployment in what is no part of the template: the revision, annotations, minReadySeconds."},
	{Type: "replicaset.adopted", Resource: "replicasets.apps", Effect: Changes, Writers: deploymentController,
		Paths: []string{"/metadata/ownerReferences"}, Doc: "A ReplicaSet without a controller that the Deployment selects is its own now."},
	{Type: "replicaset.released", Resource: "replicasets.apps", Effect: Changes, Writers: deploymentController,
		Paths: []string{"/metadata/ownerReferences"}, Doc: "A ReplicaSet that the Deployment no longer selects is not its own any more."},

	{Type: "node.lost", Resource: "nodes", Effect: Changes, Writers: nodeLifecycleController,
		Paths: []string{"/status/conditions"}, Doc: "The node has not been heard for longer than it may be silent."},
	{Type: "node.tainted", Resource: "nodes", Effect: Changes, Writers: nodeLifecycleController,
		Paths: []string{"/spec/taints"}, Doc: "Its taints are in line with its conditions again."},
	{Type: "pod.unready", Resource: "pods", Effect: Changes, Writers: nodeLifecycleController,
		Paths: []string{"/status/conditions"}, Doc: "The pod was ready, but its node is not any more."},
	{Type: "pod.disrupted", Resource: "pods", Effect: Changes, Writers: nodeLifecycleController,
		Paths: []string{"/status/conditions"}, Doc: "It is to be deleted, because it does not tolerate a taint of its node."},
	{Type: "pod.failed", Resource: "pods", Effect: Changes, Writers: podGCController,
		Paths: []string{"/status/phase", "/status/conditions"}, Doc: "What ran of it is beyond reach, for its node is gone. It is final."},
}

var (
	nodeLifecycleController = []string{"controller:nodelifecycle"}
	podGCController         = []string{"controller:podgc"}

	replicaSetController = []string{"controller:replicaset"}
	deploymentController = []string{"controller:deployment"}
)
