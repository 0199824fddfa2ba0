package events

// Controllers of workloads: Deployment and ReplicaSet.
var workloadRules = []Rule{}
