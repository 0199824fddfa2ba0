package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// users are people with kubectl: they ask a server, look at the answer, and try
// again a few times if there is none.
type users struct {
	host
	images int
}

func shopDeployment(name string) events.Ref {
	return events.Ref{Group: "apps", Resource: "deployments", Namespace: "shop", Name: name}
}

// uid is a new uid.
func (w *world) uid() string {
	w.uids++
	return fmt.Sprintf("u%d", w.uids)
}

// ask has a server do something for a user, at most five times until it is done.
func (u *users) ask(tries int, do func(ctx context.Context, g runnertest.Gate) error) {
	w := u.w
	if tries == 0 {
		return
	}
	s := w.servers[w.random.IntN(len(w.servers))]
	answered := false
	u.send(&s.host, func() {
		s.host.begin(func() {
			err := events.ErrUnavailable
			if s.ready {
				err = do(context.Background(), s.gate("alice"))
			}
			s.send(&u.host, func() {
				answered = true
				if err != nil {
					u.after(time.Second, func() { u.ask(tries-1, do) })
				}
			})
		})
	})
	u.after(15*time.Second, func() {
		if !answered {
			u.ask(tries-1, do)
		}
	})
}

// do carries out a user's step.
func (u *users) do(s Step) {
	ref := shopDeployment(s.Name)
	switch s.Verb {
	case create:
		u.command(5, runner.Command{Verb: runner.Create, Object: ref, Body: manifest(s.Name, s.Number)})
	case destroy:
		c := runner.Command{Verb: runner.Delete, Object: ref, Propagation: []string{"Background", "Foreground", "Orphan"}[s.Number]}
		u.command(5, c)
	case scale:
		u.update(ref, func(doc map[string]any) { doc["spec"].(map[string]any)["replicas"] = s.Number })
	case rollout:
		u.images++
		image := fmt.Sprintf("%s:%d", s.Name, u.images+1)
		u.update(ref, func(doc map[string]any) {
			template := doc["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
			template["containers"].([]any)[0].(map[string]any)["image"] = image
		})
	case killPod:
		u.ask(5, func(ctx context.Context, g runnertest.Gate) error { return deletePod(ctx, g, s) })
	case cordon, uncordon:
		u.update(u.w.nodes[s.Number].self(), func(doc map[string]any) {
			spec, _ := doc["spec"].(map[string]any)
			if spec == nil {
				spec = map[string]any{}
				doc["spec"] = spec
			}
			if s.Verb == cordon {
				spec["unschedulable"] = true
			} else {
				delete(spec, "unschedulable")
			}
		})
	}
}

func (u *users) command(tries int, c runner.Command) {
	u.ask(tries, func(ctx context.Context, g runnertest.Gate) error {
		_, err := g.Do(ctx, events.Actor{}, c)
		return err
	})
}

func (u *users) update(ref events.Ref, change func(map[string]any)) {
	u.ask(5, func(ctx context.Context, g runnertest.Gate) error {
		_, err := g.Update(ctx, ref, change)
		return err
	})
}

// deletePod deletes one of a Deployment's pods, if there are any.
func deletePod(ctx context.Context, g runnertest.Gate, s Step) error {
	var pods []*projections.Entry
	for e := range g.Projection.View().List("", "pods", "shop") {
		if e.Meta().Labels["app"] == s.Name {
			pods = append(pods, e)
		}
	}
	if len(pods) == 0 {
		return nil
	}
	e := pods[s.Number%len(pods)]
	c := runner.Command{Verb: runner.Delete, Object: e.Ref, UID: e.UID}
	if s.Number%7 == 1 {
		c.GracePeriod = new(int64)
	}
	_, err := g.Do(ctx, events.Actor{}, c)
	return err
}

// manifest is the Deployment that users create.
func manifest(name string, replicas int) []byte {
	labels := map[string]string{"app": name}
	soon := int64(10)
	var tolerations []core.Toleration
	for _, key := range []string{core.TaintNodeNotReady, core.TaintNodeUnreachable} {
		tolerations = append(tolerations, core.Toleration{Key: key, Operator: core.TolerationOpExists, Effect: core.TaintEffectNoExecute, TolerationSeconds: &soon})
	}
	cpu := "1"
	if name == "api" {
		cpu = "1500m"
	}
	raw, err := json.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"namespace": "shop", "name": name},
		"spec": map[string]any{
			"replicas": replicas, "selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{
				"tolerations": tolerations, "terminationGracePeriodSeconds": 3,
				"containers": []any{map[string]any{
					"name": "c", "image": name + ":1", "resources": map[string]any{"requests": map[string]string{"cpu": cpu}},
				}},
			}},
		},
	})
	if err != nil {
		panic(fmt.Sprintf("a manifest cannot be encoded: %v", err))
	}
	return raw
}
