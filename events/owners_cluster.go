package events

// Controllers of the cluster itself: garbage, namespaces, accounts, roles, nodes.
var clusterRules = []Rule{
	{Type: "clusterrole.aggregated", Resource: "clusterroles.rbac.authorization.k8s.io", Effect: Changes,
		Writers: []string{"controller:roleaggregation"}, Paths: []string{"/rules"},
		Doc: "Its rules are those of the roles that it is made of."},
	{Type: "configmap.published", Resource: "configmaps", Effect: Changes,
		Writers: []string{"controller:rootca"}, Paths: []string{"/data"},
		Doc: "It holds the certificate of the API server again."},

	{Type: "namespace.draining", Resource: "namespaces", Effect: Changes,
		Writers: []string{"controller:namespace"}, Paths: []string{"/status/conditions"},
		Doc: "What is left in it, and what that waits for."},
	{Type: "namespace.finalized", Resource: "namespaces", Effect: Changes,
		Writers: []string{"controller:namespace"}, Paths: []string{"/spec/finalizers"},
		Doc: "Somebody whom its deletion waits for was put on the list or is done."},
	{Type: "namespace.emptied", Resource: "namespaces", Effect: Removes,
		Writers: []string{"controller:namespace"},
		Doc:     "Nothing was left in it, so it is gone."},

	{Type: "event.recorded", Resource: "events", Effect: Puts, Optional: true,
		Writers: []string{"controller:recorder"}, Doc: "Something happened that people are told of. Not part of the history."},

	{Type: "*.orphaned", Resource: "*", Effect: Changes,
		Writers: []string{"controller:garbage"}, Paths: []string{"/metadata/ownerReferences"},
		Doc: "An owner has let go of it, or was not there any more."},
	{Type: "*.unblocked", Resource: "*", Effect: Changes,
		Writers: []string{"controller:garbage"}, Paths: []string{"/metadata/ownerReferences"},
		Doc: "Its owner's deletion does not wait for it any more."},
	{Type: "*.released", Resource: "*", Effect: Changes,
		Writers: []string{"controller:garbage"}, Paths: []string{"/metadata/finalizers"},
		Doc: "Its deletion does not wait for its dependents any more."},
	{Type: "*.collected", Resource: "*", Effect: Removes,
		Writers: []string{"controller:garbage"},
		Doc:     "It was to be deleted once its dependents were seen to, so it is gone."},
}
