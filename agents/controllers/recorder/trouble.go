package recorder

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/projections"
)

// ofObstacle tells what keeps a pod's containers from being created, when it was
// not told before: the node says so in the status of those that wait.
func ofObstacle(c projections.Change) []note {
	// A status that waits begins with its message, if it has one.
	if !bytes.Contains(c.Event.Data, []byte(`{"message":`)) && !bytes.Contains(c.Event.Data, []byte(`/waiting/message"`)) {
		return nil
	}
	pod := projections.As[v1.Pod](c.Entry())
	message := obstacle(pod)
	if message == "" || c.Before != nil && obstacle(projections.As[v1.Pod](c.Before)) == message {
		return nil
	}
	reason := "FailedCreatePodSandBox"
	if strings.HasPrefix(message, "volume ") {
		reason = "FailedMount"
	}
	return []note{{About: pointTo(c.Entry()), Warning: true, Reason: reason, Message: message,
		Component: kubelet, Host: pod.Spec.NodeName, Sequence: c.Event.Sequence}}
}

// ofReadiness tells what a pod's readiness probes say, when it is new.
func ofReadiness(c projections.Change) []note {
	if !bytes.Contains(c.Event.Data, []byte("readiness probe: ")) || c.Before == nil {
		return nil
	}
	pod := projections.As[v1.Pod](c.Entry())
	message := messageOf(pod, v1.ContainersReady)
	if message == messageOf(projections.As[v1.Pod](c.Before), v1.ContainersReady) {
		return nil
	}
	return []note{{About: pointTo(c.Entry()), Warning: true, Reason: "Unhealthy", Message: message,
		Component: kubelet, Host: pod.Spec.NodeName, Sequence: c.Event.Sequence}}
}

// ofKill tells of a container that its node ended because of its probes.
func ofKill(c projections.Change) []note {
	var said struct {
		Container string `json:"container"`
		Killed    string `json:"killed"`
	}
	if json.Unmarshal(c.Event.Note, &said) != nil || said.Killed == "" {
		return nil
	}
	return []note{containerNote(c, said.Container, true, "Unhealthy", said.Killed)}
}

// obstacle is the message of the first container that is being created.
func obstacle(pod *v1.Pod) string {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && (w.Reason == "ContainerCreating" || w.Reason == "PodInitializing") {
			return w.Message
		}
	}
	return ""
}
