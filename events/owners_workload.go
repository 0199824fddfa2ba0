package events

// Controllers of workloads: Deployment and ReplicaSet.
var workloadRules = []Rule{
	{Type: "replicaset.observed", Resource: "replicasets.apps", Effect: Changes, Writers: replicaSetController,
		Paths: []string{"/status"}, Doc: "The count of its pods, by how far they are, is different now."},
	{Type: "pod.adopted", Resource: "pods", Effect: Changes, Writers: replicaSetController,
		Paths: []string{"/metadata/ownerReferences"}, Doc: "A pod without a controller that the ReplicaSet selects is its own now."},
	{Type: "pod.released", Resource: "pods", Effect: Changes, Writers: replicaSetController,
		Paths: []string{"/metadata/ownerReferences"}, Doc: "A pod that the ReplicaSet no longer selects is not its own any more."},

	{Type: "deployment.observed", Resource: "deployments.apps", Effect: Changes, Writers: deploymentController,
		Paths: []string{"/status"}, Doc: "How far its rollout is, is different now."},
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
}

var (
	replicaSetController = []string{"controller:replicaset"}
	deploymentController = []string{"controller:deployment"}
)
