package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/node/plan"
)

// TestTranscripts plays pods against a runtime of the test's own, which does
// what the plan says at once, unless the transcript says otherwise.
//
//	pod                        the pod, as YAML
//	plan now=T                 plan at T, carry it out, print both
//	settle now=T               plan again and again until there is nothing to do
//	exit name=N code=C now=T   a container ends; reason=R
//	abort name=N               its start was cut short
//	lose                       the newest sandbox dies, and all in it
//	fail key=K reason=R now=T  the action of key K fails; again: once more
//	created name=N             it has not been started
//	begun name=N               its postStart hook ends
//	mend key=K                 it has no failure any more
//	probe name=N unhealthy=M   the verdict of the probes; started=false
//	delete now=T grace=N       the pod is deleted through the API
//	forget                     the API no longer has the pod
//	phase P                    the API has the pod in that phase
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return w.command(t, d)
		})
	})
}

var zero = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type world struct {
	pod plan.Pod
	ids int
}

func (w *world) command(t *testing.T, d *datadriven.TestData) string {
	now := zero
	if d.HasArg("now") {
		now = zero.Add(duration(t, d, "now"))
	}
	switch d.Cmd {
	case "pod":
		w.reset(t, d.Input)
		return ""
	case "plan":
		return w.plan(now)
	case "settle":
		var out strings.Builder
		for range 20 {
			s := w.plan(now)
			out.WriteString(s)
			if strings.HasPrefix(s, "nothing") {
				return out.String()
			}
		}
		t.Fatalf("%s: does not settle:\n%s", d.Pos, out.String())
	case "exit":
		w.exit(t, d, now)
	case "abort":
		w.pod.Newest(arg(d, "name")).State = plan.Aborted
	case "created":
		w.pod.Newest(arg(d, "name")).State = plan.Created
	case "begun":
		w.pod.Newest(arg(d, "name")).Starting = false
	case "lose":
		last := &w.pod.Sandboxes[len(w.pod.Sandboxes)-1]
		last.Ready = false
	case "fail":
		key := arg(d, "key")
		w.pod.Failures[key] = plan.Failure{Count: w.pod.Failures[key].Count + 1, At: now, Reason: arg(d, "reason")}
	case "mend":
		delete(w.pod.Failures, arg(d, "key"))
	case "probe":
		c := w.pod.Newest(arg(d, "name"))
		w.pod.Probes[c.ID] = plan.Probe{Started: arg(d, "started") != "false", Ready: true, Unhealthy: arg(d, "unhealthy")}
	case "delete":
		grace := int64(duration(t, d, "grace") / time.Second)
		at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second))
		w.pod.Desired.DeletionTimestamp, w.pod.Desired.DeletionGracePeriodSeconds = &at, &grace
	case "forget":
		w.pod.Desired = nil
	case "phase":
		w.pod.Desired.Status.Phase = v1.PodPhase(d.CmdArgs[0].Key)
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	return ""
}

func (w *world) reset(t *testing.T, input string) {
	pod := &v1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(input), pod); err != nil {
		t.Fatal(err)
	}
	start := metav1.NewTime(zero)
	pod.Status.StartTime = &start
	*w = world{pod: plan.Pod{Desired: pod, Images: map[string]bool{}, Pulled: map[string]bool{},
		Failures: map[string]plan.Failure{}, Probes: map[string]plan.Probe{}, Reported: true}}
}

func (w *world) exit(t *testing.T, d *datadriven.TestData, now time.Time) {
	c := w.pod.Newest(arg(d, "name"))
	var code int32
	d.ScanArgs(t, "code", &code)
	c.State, c.ExitCode, c.Finished, c.Reason = plan.Exited, code, now, arg(d, "reason")
}

// plan plans, carries out and prints.
func (w *world) plan(now time.Time) string {
	actions, wake := plan.Plan(w.pod, now)
	var b strings.Builder
	for _, a := range actions {
		fmt.Fprintln(&b, a)
		w.do(a, now)
	}
	if len(actions) == 0 {
		b.WriteString("nothing to do\n")
	}
	if !wake.IsZero() {
		fmt.Fprintf(&b, "wake: %s\n", wake.Sub(zero))
	}
	return b.String()
}

// hooked says that a container has a postStart hook.
func (w *world) hooked(name string) bool {
	of := func(c v1.Container) bool { return c.Name == name && plan.PostStart(&c) }
	return slices.ContainsFunc(w.pod.Desired.Spec.InitContainers, of) || slices.ContainsFunc(w.pod.Desired.Spec.Containers, of)
}

func (w *world) do(a plan.Action, now time.Time) {
	p := &w.pod
	switch a.Kind {
	case plan.PrepareVolumes:
		p.Mounted, p.Kept = true, true
	case plan.RunSandbox:
		p.Sandboxes = append(p.Sandboxes, plan.Sandbox{ID: fmt.Sprintf("s%d", a.Attempt), Attempt: a.Attempt, Ready: true, Created: now})
	case plan.PullImage:
		p.Images[a.Image], p.Pulled[a.Key()] = true, true
	case plan.RunContainer:
		w.ids++
		c := plan.Container{Name: a.Container, ID: fmt.Sprintf("c%d", w.ids), Sandbox: a.ID, Attempt: a.Attempt,
			State: plan.Running, Created: now, Started: now, Backoff: a.Backoff, Starting: w.hooked(a.Container)}
		p.Containers = append(p.Containers, c)
		p.Probes[c.ID] = plan.Probe{Started: true, Ready: true}
	case plan.StartContainer:
		c := p.Newest(a.Container)
		c.State, c.Starting = plan.Running, w.hooked(a.Container)
	case plan.KillContainer:
		for i := range p.Containers {
			if c := &p.Containers[i]; c.ID == a.ID {
				c.State, c.ExitCode, c.Finished = plan.Exited, 137, now
			}
		}
	case plan.RemoveContainer:
		p.Containers = slices.DeleteFunc(p.Containers, func(c plan.Container) bool { return c.ID == a.ID })
	case plan.StopSandbox:
		for i := range p.Sandboxes {
			p.Sandboxes[i].Ready = p.Sandboxes[i].Ready && p.Sandboxes[i].ID != a.ID
		}
	case plan.RemoveSandbox:
		p.Sandboxes = slices.DeleteFunc(p.Sandboxes, func(s plan.Sandbox) bool { return s.ID == a.ID })
		p.Containers = slices.DeleteFunc(p.Containers, func(c plan.Container) bool { return c.Sandbox == a.ID })
	case plan.Clean:
		p.Mounted, p.Kept = false, false
	case plan.RemovePod:
		p.Desired = nil
	}
}

func arg(d *datadriven.TestData, key string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return strings.Join(a.Vals, " ")
		}
	}
	return ""
}

func duration(t *testing.T, d *datadriven.TestData, key string) time.Duration {
	t.Helper()
	v, err := time.ParseDuration(arg(d, key))
	if err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	return v
}
