package events

// The gate writes what people and agents command through the Kubernetes API. It
// finds the type from the change: among the rules that cover it the first one
// counts, so here the telling facts come before the general ones.
var apiRules = []Rule{
	// Facts about one kind of object.
	{Type: "deployment.scaled", Resource: "deployments.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/replicas"}, Doc: "Somebody asked for another number of replicas."},
	{Type: "deployment.paused", Resource: "deployments.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/paused"}, Needs: "add /spec/paused true", Doc: "Its rollout is to stand still."},
	{Type: "deployment.resumed", Resource: "deployments.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/paused"}, Needs: "remove /spec/paused", Doc: "Its rollout is to go on."},
	{Type: "deployment.image-changed", Resource: "deployments.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/template/spec/containers/*/image", "/spec/template/spec/initContainers/*/image"},
		Doc:   "Its pods are to run another image."},
	{Type: "deployment.template-changed", Resource: "deployments.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/template"}, Doc: "Its pods are to be made otherwise."},
	{Type: "replicaset.scaled", Resource: "replicasets.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/replicas"}, Doc: "Somebody asked for another number of replicas."},
	{Type: "statefulset.scaled", Resource: "statefulsets.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/replicas"}, Doc: "Somebody asked for another number of replicas."},
	{Type: "statefulset.template-changed", Resource: "statefulsets.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/template"}, Doc: "Its pods are to be made otherwise."},
	{Type: "daemonset.template-changed", Resource: "daemonsets.apps", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/template"}, Doc: "Its pods are to be made otherwise."},
	{Type: "job.suspended", Resource: "jobs.batch", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/suspend"}, Needs: "replace /spec/suspend true", Doc: "It is to run no pods for now."},
	{Type: "job.resumed", Resource: "jobs.batch", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/suspend"}, Needs: "replace /spec/suspend false", Doc: "It is to run its pods again."},
	{Type: "cronjob.suspended", Resource: "cronjobs.batch", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/suspend"}, Needs: "replace /spec/suspend true", Doc: "It is to start no jobs for now."},
	{Type: "cronjob.resumed", Resource: "cronjobs.batch", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/suspend"}, Needs: "replace /spec/suspend false", Doc: "It is to start jobs again."},
	{Type: "node.cordoned", Resource: "nodes", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/unschedulable"}, Needs: "add /spec/unschedulable true", Doc: "It is to get no more pods."},
	{Type: "node.uncordoned", Resource: "nodes", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/unschedulable"}, Needs: "remove /spec/unschedulable", Doc: "It may get pods again."},
	{Type: "node.taints-changed", Resource: "nodes", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/taints"}, Doc: "Somebody put taints on it or took them off."},
	{Type: "pod.resized", Resource: "pods", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/containers/*/resources", "/spec/initContainers/*/resources"},
		Doc:   "Its containers are to have other resources."},
	{Type: "pod.debugged", Resource: "pods", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/ephemeralContainers"}, Doc: "It is to run an ephemeral container."},
	{Type: "namespace.finalized", Resource: "namespaces", Effect: Changes, Writers: gate,
		Paths: []string{"/spec/finalizers", "/metadata/finalizers"}, Doc: "Somebody whom its deletion waits for was put on the list or is done."},
	{Type: "configmap.data-changed", Resource: "configmaps", Effect: Changes, Writers: gate,
		Paths: []string{"/data", "/binaryData"}, Doc: "Its data is different now."},
	{Type: "secret.data-changed", Resource: "secrets", Effect: Changes, Writers: gate,
		Paths: []string{"/data"}, Doc: "Its data is different now."},

	// Facts about any object.
	{Type: "*.terminating", Resource: "*", Effect: Changes, Writers: gate,
		Paths: []string{"/metadata/deletionTimestamp", "/metadata/deletionGracePeriodSeconds", "/metadata/finalizers"},
		Needs: "add /metadata/deletionTimestamp", Doc: "It is to be deleted once its finalizers are done and its grace period is over."},
	{Type: "*.finalized", Resource: "*", Effect: Changes, Writers: gate,
		Paths: []string{"/metadata/finalizers"}, Doc: "Somebody whom its deletion waits for was put on the list or is done."},
	{Type: "*.labeled", Resource: "*", Effect: Changes, Writers: gate,
		Paths: []string{"/metadata/labels"}, Doc: "Its labels are different now."},
	{Type: "*.annotated", Resource: "*", Effect: Changes, Writers: gate,
		Paths: []string{"/metadata/annotations"}, Doc: "Its annotations are different now."},
	{Type: "*.status-updated", Resource: "*", Effect: Changes, Writers: gate,
		Paths: []string{"/status"}, Doc: "A client reported how it stands."},
	{Type: "*.created", Resource: "*", Effect: Creates, Writers: gate, Doc: "It is there now."},
	{Type: "*.updated", Resource: "*", Effect: Changes, Writers: gate, Doc: "A client changed it, in more ways than one word says."},
	{Type: "*.deleted", Resource: "*", Effect: Removes, Writers: gate, Doc: "It is gone."},

	// Volatile objects: outside of the history, whole in each event.
	{Type: "lease.renewed", Resource: "leases.coordination.k8s.io", Effect: Puts, Writers: gate, Optional: true,
		Doc: "Its holder is still there, or somebody else has taken it."},
	{Type: "event.recorded", Resource: "events", Effect: Puts, Writers: gate, Optional: true, Doc: "Somebody told people what happened."},
	{Type: "event.recorded", Resource: "events.events.k8s.io", Effect: Puts, Writers: gate, Optional: true, Doc: "Somebody told people what happened."},
	{Type: "*.put", Resource: "*", Effect: Puts, Writers: gate, Optional: true, Doc: "It is now as its writer says."},
}

// gate is the writer of what passes the Kubernetes API.
var gate = []string{"api"}
