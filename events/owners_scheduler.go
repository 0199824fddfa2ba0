package events

// The scheduler is the only binder.
var schedulerRules = []Rule{
	{Type: "pod.bound", Resource: "pods", Effect: Changes, Writers: scheduler, Needs: "add /spec/nodeName",
		Paths: []string{"/spec/nodeName", "/status/conditions", "/status/nominatedNodeName",
			"/metadata/labels", "/status"},
		Doc: "It is to run on the node."},
	{Type: "pod.unschedulable", Resource: "pods", Effect: Changes, Writers: scheduler,
		Paths: []string{"/status/conditions", "/status"},
		Doc:   "No node would take it; it waits until one does."},
}

var scheduler = []string{"scheduler"}
