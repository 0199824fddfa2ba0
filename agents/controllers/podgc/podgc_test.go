package podgc_test

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/controllers/podgc"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

func TestTranscripts(t *testing.T) {
	runnertest.Run(t, "testdata", podgc.New(podgc.Options{Ended: 2}))
}

// What is remembered of one view changes nothing about what is decided on another, later
// or earlier.
func TestRemembersNothingThatMatters(t *testing.T) {
	options := podgc.Options{Ended: 3}
	deleted := 0
	for seed := range int64(20) {
		r := rand.New(rand.NewSource(seed))
		d, state := podgc.New(options), projections.NewState()
		var seen []runner.View
		for step := range 40 {
			ref := events.Ref{Resource: "pods", Namespace: "ns", Name: fmt.Sprintf("p%d", r.Intn(12))}
			if r.Intn(5) == 0 {
				state.Remove(ref)
			} else {
				deletion := ""
				if r.Intn(5) == 0 {
					deletion = `,"deletionTimestamp":"2026-01-01T00:00:00Z"`
				}
				phase, reason := []string{"Running", "Succeeded", "Failed"}[r.Intn(3)], []string{"Evicted", ""}[r.Intn(2)]
				raw := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-01-01T00:0%d:00Z"%s,"name":%q,"namespace":"ns","uid":"u"},"spec":{"containers":null},"status":{"phase":%q,"reason":%q}}`,
					r.Intn(3), deletion, ref.Name, phase, reason)
				state.Put(projections.NewEntry(ref, "", uint64(step), uint64(step), []byte(raw)))
			}
			v := runner.View{Reader: state.View()}
			seen = append(seen, v)
			item := runner.Item{Ref: events.Ref{Resource: "pods"}, Because: 1}
			for _, v := range []runner.View{v, seen[r.Intn(len(seen))]} {
				got, want := d.Decide(v, item, time.Time{}), podgc.New(options).Decide(v, item, time.Time{})
				if got.Digest() != want.Digest() {
					t.Fatalf("seed %d, step %d: %d pods are deleted, want %d", seed, step, len(got.Commands), len(want.Commands))
				}
				deleted += len(got.Commands)
			}
		}
	}
	if deleted < 100 {
		t.Errorf("only %d pods were deleted", deleted)
	}
}
