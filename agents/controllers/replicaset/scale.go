package replicaset

import (
	"fmt"
	"sort"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/controller"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// scale creates the pods that are missing, or deletes those too many.
func (s *set) scale(now time.Time) []runner.Command {
	want := 1
	if s.Spec.Replicas != nil {
		want = int(*s.Spec.Replicas)
	}
	missing := want - len(s.active)
	if missing > 0 && s.Status.ObservedGeneration == 0 {
		// A new ReplicaSet takes what is there before it makes more.
		missing = max(missing-s.adoptable(), 0)
	}
	switch {
	case missing > 0:
		return s.create(min(missing, burst))
	case missing < 0:
		return s.delete(min(-missing, burst), now)
	}
	return nil
}

// adoptable counts the pods that are about to be adopted.
func (s *set) adoptable() int {
	n := 0
	for _, ref := range orphansOf(s.view, s.entry) {
		if e := s.view.Get(ref); controller.IsPodActive(projections.As[core.Pod](e)) && adopterOf(s.view, e) == s.entry {
			n++
		}
	}
	return n
}

func (s *set) create(n int) []runner.Command {
	pod, err := controller.GetPodFromTemplate(&s.Spec.Template, s.ReplicaSet, metav1.NewControllerRef(s, apps.SchemeGroupVersion.WithKind("ReplicaSet")))
	if err != nil {
		panic(fmt.Sprintf("%s has metadata but is refused for lack of it: %v", s.entry.Ref, err))
	}
	pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	pod.Namespace = s.Namespace
	prefix := pod.GenerateName[:min(len(pod.GenerateName), maxPrefix)]
	commands := make([]runner.Command, 0, n)
	for ordinal := 0; len(commands) < n; ordinal++ {
		ref := events.Ref{Resource: "pods", Namespace: s.Namespace, Name: prefix + runner.NameSuffix(s.item.Because, ordinal)}
		switch {
		case s.view.Get(ref) != nil: // the cause has made this one already
		case len(commands) > 0:
			commands = append(commands, runner.CreationLike(commands[0], ref.Name))
		default:
			pod.Name = ref.Name
			commands = append(commands, runner.Creation(ref, pod, s.item.Because))
		}
	}
	return commands
}

// maxPrefix leaves room in a label's 63 characters for the suffix, so that the
// pod's name can be its host name.
const maxPrefix = 58

// delete takes the pods that are missed least.
func (s *set) delete(n int, now time.Time) []runner.Command {
	pods := append([]*core.Pod(nil), s.active...)
	if n < len(pods) {
		sort.Sort(controller.ActivePodsWithRanks{Pods: pods, Rank: s.ranks(pods), Now: metav1.NewTime(now)})
	}
	commands := make([]runner.Command, 0, n)
	for _, pod := range pods[:n] {
		commands = append(commands, runner.Command{
			Verb:    runner.Delete,
			Object:  events.Ref{Resource: "pods", Namespace: pod.Namespace, Name: pod.Name},
			Because: s.item.Because,
			UID:     string(pod.UID),
		})
	}
	return commands
}

// ranks counts for each pod the active pods on its node that belong to the same
// ReplicaSet, or to another of the same Deployment.
func (s *set) ranks(pods []*core.Pod) []int {
	onNode := map[string]int{}
	for _, uid := range s.relatives() {
		for e := range s.view.Owned(uid) {
			if objects.IsPod(e.Ref) {
				if pod := projections.As[core.Pod](e); controller.IsPodActive(pod) {
					onNode[pod.Spec.NodeName]++
				}
			}
		}
	}
	ranks := make([]int, len(pods))
	for i, pod := range pods {
		ranks[i] = onNode[pod.Spec.NodeName]
	}
	return ranks
}

// relatives are the UIDs of the ReplicaSets with the same controller, itself
// among them.
func (s *set) relatives() []string {
	owner := metav1.GetControllerOfNoCopy(s)
	if owner == nil {
		return []string{s.entry.UID}
	}
	var uids []string
	for e := range s.view.Owned(string(owner.UID)) {
		if objects.IsReplicaSet(e.Ref) {
			uids = append(uids, e.UID)
		}
	}
	return uids
}
