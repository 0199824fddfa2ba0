package events

// The scheduler is the only binder.
var schedulerRules = []Rule{}
