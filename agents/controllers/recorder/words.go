package recorder

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Who upstream would say it is.
const (
	scheduler            = "default-scheduler"
	kubelet              = "kubelet"
	replicaSetController = "replicaset-controller"
	deploymentController = "deployment-controller"
	nodeController       = "node-controller"
)

// notesOf says what to tell about a change, in upstream's reasons and words.
func notesOf(v runner.View, c projections.Change) []note {
	switch ref := c.Event.Object; ref.GroupResource() {
	case "pods":
		return ofPod(v, c)
	case "nodes":
		return ofNode(c)
	case "replicasets.apps":
		return ofReplicaSet(v, c)
	}
	return nil
}

// ofPod decodes the pod only for facts that are told: most are not.
func ofPod(v runner.View, c projections.Change) []note {
	switch c.Event.Type {
	case "pod.created":
		return ofMember(v, c, "SuccessfulCreate", "Created")
	case "pod.bound", "pod.unschedulable", "pod.disrupted":
		return ofScheduling(c)
	case "pod.terminating":
		return append(stopping(c, projections.As[v1.Pod](c.After)), ofRemoval(v, c)...)
	case "pod.deleted":
		return ofRemoval(v, c)
	case "container.started", "container.waiting":
		return ofContainer(c)
	case "pod.observed", "pod.sandboxed", "pod.unready":
		return append(ofObstacle(c), ofReadiness(c)...)
	case "container.exited":
		return ofKill(c)
	}
	return nil
}

// ofScheduling tells where a pod goes, or why it goes nowhere.
func ofScheduling(c projections.Change) []note {
	ref := c.Event.Object
	n := note{About: pointTo(c.Entry()), Component: scheduler, Sequence: c.Event.Sequence}
	switch c.Event.Type {
	case "pod.bound":
		n.Reason, n.Message = "Scheduled", "Successfully assigned "+ref.Namespace+"/"+ref.Name+" to "+c.Entry().Node()
	case "pod.unschedulable":
		n.Warning, n.Reason, n.Message = true, "FailedScheduling", messageOf(projections.As[v1.Pod](c.Entry()), v1.PodScheduled)
	default:
		n.Warning, n.Reason, n.Message = true, "TaintManagerEviction", fmt.Sprintf("Marking for deletion Pod %s/%s", ref.Namespace, ref.Name)
		n.Component = nodeController
	}
	return []note{n}
}

// ofRemoval tells a ReplicaSet that it has deleted a pod.
func ofRemoval(v runner.View, c projections.Change) []note {
	if !strings.HasSuffix(c.Event.User, ":"+replicaSetController) || c.Before == nil || c.Before.Meta().DeletionTimestamp != nil {
		return nil
	}
	return ofMember(v, c, "SuccessfulDelete", "Deleted")
}

// ofMember tells the ReplicaSet that a pod belongs to. One that has many pods is told of all
// that happened meanwhile at once.
func ofMember(v runner.View, c projections.Change, reason, verb string) []note {
	pod := c.Entry()
	o := metav1.GetControllerOfNoCopy(pod.Meta())
	if o == nil || o.Kind != "ReplicaSet" {
		return nil
	}
	n := note{
		About:  v1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: pod.Ref.Namespace, Name: o.Name, UID: o.UID},
		Reason: reason, Message: verb + " pod: " + pod.Ref.Name, Component: replicaSetController, Sequence: c.Event.Sequence,
	}
	if set := v.Get(events.Ref{Group: "apps", Resource: "replicasets", Namespace: pod.Ref.Namespace, Name: o.Name}); set != nil && hasMany(set) {
		n.Message, n.Sequence = combined+verb+" pods", latest
	}
	return []note{n}
}

// combined is how upstream begins what it says of more than ten events that are alike.
const combined = "(combined from similar events): "

// hasMany says whether a ReplicaSet has many pods, or is to have them.
func hasMany(set *projections.Entry) bool {
	return max(replicas(set), projections.As[appsv1.ReplicaSet](set).Status.Replicas) > 10
}

// stopping tells of each container that runs and is to be stopped.
func stopping(c projections.Change, pod *v1.Pod) []note {
	var notes []note
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.State.Running != nil {
			notes = append(notes, containerNote(c, s.Name, false, "Killing", "Stopping container "+s.Name))
		}
	}
	return notes
}

// ofContainer tells of a container by what its node said about it.
func ofContainer(c projections.Change) []note {
	var said struct {
		Container string `json:"container"`
	}
	if json.Unmarshal(c.Event.Note, &said) != nil {
		return nil
	}
	if c.Event.Type == "container.started" {
		if e := c.Entry(); !isAmong(e.Lookup("spec", "containers"), said.Container) && !isAmong(e.Lookup("spec", "initContainers"), said.Container) {
			return nil
		}
		return []note{containerNote(c, said.Container, false, "Started", "Container started")}
	}
	pod := projections.As[v1.Pod](c.Entry())
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.Name == said.Container && s.State.Waiting != nil {
			return waiting(c, pod, s)
		}
	}
	return nil
}

func waiting(c projections.Change, pod *v1.Pod, s v1.ContainerStatus) []note {
	told := func(warning bool, reason, message string) []note {
		return []note{containerNote(c, s.Name, warning, reason, message)}
	}
	switch w := s.State.Waiting; w.Reason {
	case "PodInitializing", "ContainerCreating", "":
		return nil
	case "CrashLoopBackOff":
		return told(true, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", s.Name, pod.Name, pod.Namespace, pod.UID))
	case "ImagePullBackOff":
		return told(false, "BackOff", fmt.Sprintf("Back-off pulling image %s", strconv.Quote(s.Image)))
	case "ErrImagePull", "ErrImageNeverPull", "InvalidImageName":
		return told(true, "Failed", fmt.Sprintf("Failed to pull image %s: %s", strconv.Quote(s.Image), w.Message))
	default:
		return told(true, "Failed", "Error: "+w.Reason+": "+w.Message)
	}
}

func containerNote(c projections.Change, container string, warning bool, reason, message string) note {
	about := pointTo(c.Entry())
	about.FieldPath = "spec.containers{" + container + "}"
	if isAmong(c.Entry().Lookup("spec", "initContainers"), container) {
		about.FieldPath = "spec.initContainers{" + container + "}"
	}
	return note{About: about, Warning: warning, Reason: reason, Message: message, Component: kubelet, Host: c.Entry().Node(), Sequence: c.Event.Sequence}
}

// isAmong says whether a container of a name is in a list of the stored object.
func isAmong(list []byte, name string) bool {
	return slices.ContainsFunc(events.Elements(list), func(c []byte) bool {
		text, _ := events.Text(events.Lookup(c, "name"))
		return text == name
	})
}

func ofNode(c projections.Change) []note {
	name := c.Event.Object.Name
	told := func(warning bool, reason, message string) []note {
		return []note{{About: pointTo(c.Entry()), Warning: warning, Reason: reason, Message: message, Component: nodeController, Sequence: c.Event.Sequence}}
	}
	switch c.Event.Type {
	case "node.registered":
		return told(false, "RegisteredNode", fmt.Sprintf("Node %s event: Registered Node %s in Controller", name, name))
	case "node.ready":
		return told(false, "NodeReady", fmt.Sprintf("Node %s status is now: NodeReady", name))
	case "node.unready", "node.lost":
		return told(false, "NodeNotReady", fmt.Sprintf("Node %s status is now: NodeNotReady", name))
	case "node.cordoned":
		return told(false, "NodeNotSchedulable", fmt.Sprintf("Node %s status is now: NodeNotSchedulable", name))
	case "node.uncordoned":
		return told(false, "NodeSchedulable", fmt.Sprintf("Node %s status is now: NodeSchedulable", name))
	}
	return nil
}

// ofReplicaSet tells a Deployment how it scaled its ReplicaSets.
func ofReplicaSet(v runner.View, c projections.Change) []note {
	if c.After == nil || (c.Event.Type != "replicaset.created" && c.Event.Actor.Name != "deployment") {
		return nil
	}
	o := metav1.GetControllerOfNoCopy(c.After.Meta())
	if o == nil || o.Kind != "Deployment" {
		return nil
	}
	var from int32
	to := replicas(c.After)
	if c.Before != nil {
		from = replicas(c.Before)
	}
	direction := "up"
	if from == to {
		return nil
	} else if to < from {
		direction = "down"
	}
	return []note{{
		About:  v1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: c.Event.Object.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: versionOf(v, c, o.Name)},
		Reason: "ScalingReplicaSet", Message: fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, c.Event.Object.Name, from, to),
		Component: deploymentController, Sequence: c.Event.Sequence,
	}}
}

func replicas(e *projections.Entry) int32 {
	if n := projections.As[appsv1.ReplicaSet](e).Spec.Replicas; n != nil {
		return *n
	}
	return 1
}

// versionOf is the resourceVersion of the Deployment, if it is still there.
func versionOf(v runner.View, c projections.Change, name string) string {
	e := v.Get(events.Ref{Group: "apps", Resource: "deployments", Namespace: c.Event.Object.Namespace, Name: name})
	if e == nil {
		return ""
	}
	return strconv.FormatUint(e.Sequence, 10)
}

func messageOf(pod *v1.Pod, t v1.PodConditionType) string {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return pod.Status.Conditions[i].Message
		}
	}
	return ""
}

// pointTo is a reference to a version of a pod or a node.
func pointTo(e *projections.Entry) v1.ObjectReference {
	kind := "Pod"
	if e.Ref.Resource == "nodes" {
		kind = "Node"
	}
	return v1.ObjectReference{
		APIVersion: "v1", Kind: kind, Namespace: e.Ref.Namespace, Name: e.Ref.Name,
		UID: types.UID(e.UID), ResourceVersion: strconv.FormatUint(e.Sequence, 10),
	}
}
