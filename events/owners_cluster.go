package events

// Controllers of the cluster itself: garbage, namespaces, accounts, roles, nodes.
var clusterRules = []Rule{}
