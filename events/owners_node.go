package events

// A node speaks of itself and of the pods that are bound to it.
var nodeRules = []Rule{}
