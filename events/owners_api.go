package events

// The gate writes what people and agents command through the Kubernetes API.
var apiRules = []Rule{}
