package scheduler

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// What the scheduler remembers of earlier views, in whatever order it is shown them,
// changes nothing about what it decides.
func TestRemembersNothingThatMatters(t *testing.T) {
	for seed := range int64(30) {
		r := rand.New(rand.NewSource(seed))
		state := randomCluster(r, seed%2 == 0)
		s := New("")
		var seen []runner.View
		for step := range 24 {
			v := runner.View{Reader: state.View()}
			seen = append(seen, v)
			now := time.Unix(int64(step), 0)
			item := runner.Item{Ref: queue, Because: 1}
			for _, v := range []runner.View{v, seen[r.Intn(len(seen))]} {
				if got, want := s.Decide(v, item, now), New("").Decide(v, item, now); got.Digest() != want.Digest() {
					t.Fatalf("seed %d, step %d: %d decisions, want %d", seed, step, len(got.Decisions), len(want.Decisions))
				}
			}
			fold(t, state, s.Decide(v, item, now).Decisions)
			node := fmt.Sprintf("n%d", r.Intn(6))
			switch name := fmt.Sprintf("p%d", r.Intn(40)); r.Intn(6) {
			case 0:
				state.Remove(events.Ref{Resource: "pods", Namespace: "ns", Name: name})
			case 1:
				put(state, "pods", "ns", name, "Pod", `"app":"a1"`, `"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]},"status":{"phase":"Succeeded"}`)
			case 2:
				state.Remove(events.Ref{Resource: "nodes", Name: node})
			case 3:
				put(state, "nodes", "", node, "Node", fmt.Sprintf(`"zone":"z%d","host":"h"`, r.Intn(3)), fmt.Sprintf(
					`"spec":{},"status":{"allocatable":{"cpu":"%dm","memory":"4Gi","pods":"%d"},"images":[{"names":["i:latest"],"sizeBytes":%d}]}`,
					r.Intn(4)*1000, r.Intn(12), r.Intn(3)<<30))
			case 4:
				put(state, "pods", "ns", name, "Pod", `"app":"a1"`, fmt.Sprintf(
					`"spec":{"nodeName":%q,"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"%dm","x/y":"%d"}},"ports":[{"containerPort":1,"hostPort":%d}]}]},"status":{"phase":"Running"}`,
					node, r.Intn(900), r.Intn(3), 1+r.Intn(2)))
			default:
				put(state, "pods", "ns", name, "Pod", `"app":"a1"`, fmt.Sprintf(
					`"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"%dm"}}}]},"status":{"phase":"Pending"}`, r.Intn(900)))
			}
		}
	}
}
