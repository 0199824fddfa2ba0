package status_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/agents/node/status"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// TestTranscripts shows the facts that a node tells of a pod.
//
//	pod               the pod, as YAML
//	report now=T      what the runtime says (the fields of plan.Pod, as YAML),
//	                  and the facts told of it
//
// Each fact's patch is applied before the next report, and to report the same
// again must tell nothing.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		pod := &v1.Pod{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "pod" {
				pod = &v1.Pod{}
				if err := yaml.UnmarshalStrict([]byte(d.Input), pod); err != nil {
					d.Fatalf(t, "%v", err)
				}
				return ""
			}
			var s string
			d.ScanArgs(t, "now", &s)
			after, err := time.ParseDuration(s)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return report(t, d, pod, zero.Add(after))
		})
	})
}

var zero = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func report(t *testing.T, d *datadriven.TestData, pod *v1.Pod, now time.Time) string {
	var p plan.Pod
	if err := yaml.UnmarshalStrict([]byte(d.Input), &p); err != nil {
		d.Fatalf(t, "%v", err)
	}
	p.Desired = pod
	hosts := []string{"10.0.0.1"}
	var out strings.Builder
	steps := status.Steps(p, status.Compute(p, hosts, now))
	decided(t, d, pod, steps)
	for _, step := range steps {
		fmt.Fprintf(&out, "%s %s\n", step.Type, step.Note)
		patch, err := events.Diff(document(t, pod.Status), document(t, step.Status))
		if err != nil || patch == nil {
			d.Fatalf(t, "%s changes nothing: %v", step.Type, err)
		}
		ops, err := events.ParsePatch(patch)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		for _, op := range ops {
			fmt.Fprintf(&out, "  %s %s %s\n", op.Op, op.Path, op.Value)
		}
		// What is told comes back by way of the log.
		pod.Status = v1.PodStatus{}
		if err := json.Unmarshal(document(t, step.Status), &pod.Status); err != nil {
			d.Fatalf(t, "%v", err)
		}
	}
	if again := status.Steps(p, status.Compute(p, hosts, now.Add(time.Minute))); len(again) > 0 && !d.HasArg("moving") {
		d.Fatalf(t, "told again: %s: %+v", again[0].Type, again[0].Status)
	}
	if out.Len() == 0 {
		return "nothing new\n"
	}
	return out.String()
}

// decided checks that the decision of some facts has the patches that lead from one
// status to the next, and that nothing which they share was changed.
func decided(t *testing.T, d *datadriven.TestData, pod *v1.Pod, steps []status.Step) {
	t.Helper()
	e := projections.NewEntry(events.Ref{Resource: "pods", Name: "p"}, "u", 1, 1, document(t, pod))
	before := document(t, pod.Status)
	if len(events.Lookup(e.Raw, "status")) == 0 {
		before = nil
	}
	decision, err := status.Decide(e, pod.Status, steps)
	if err != nil || len(decision.Changes) != len(steps) {
		d.Fatalf(t, "of %d facts %d are told: %v", len(steps), len(decision.Changes), err)
	}
	for i, step := range steps {
		after := document(t, step.Status)
		want := string(events.AppendPatch(nil, events.AppendDiff(nil, "/status", before, after)))
		if got := string(decision.Changes[i].Data); got != want {
			d.Fatalf(t, "%s is told as\n%s\nand should be\n%s", step.Type, got, want)
		}
		before = after
	}
	if !bytes.Equal(document(t, pod), e.Raw) {
		d.Fatalf(t, "the pod is another than before")
	}
}

// Decide leaves a member out that is empty, as JSON does.
func TestMembersAreLeftOutIfEmpty(t *testing.T) {
	for field := range reflect.TypeFor[v1.PodStatus]().Fields() {
		if _, options, _ := strings.Cut(field.Tag.Get("json"), ","); options != "omitempty" {
			t.Errorf("%s is %q in JSON", field.Name, field.Tag.Get("json"))
		}
	}
}

func document(t *testing.T, of any) []byte {
	t.Helper()
	raw, err := json.Marshal(of)
	if err == nil {
		raw, err = events.Canonical(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
