package load

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// deploymentsPerNamespace is how the Deployments are spread.
const deploymentsPerNamespace = 25

// clients is how many of the load's own requests are under way at the same time.
const clients = 10

// deployments are those of a scenario.
func deployments(s Scenario) (out []*apps.Deployment) {
	for left := s.Pods; left > 0; left -= s.PerDeployment {
		n := len(out)
		out = append(out, deployment(fmt.Sprintf("load-%d", n/deploymentsPerNamespace), fmt.Sprintf("app-%04d", n),
			int32(min(left, s.PerDeployment))))
		if s.Kind == Failure {
			leaveSoon(&out[n].Spec.Template.Spec)
		}
	}
	return out
}

// leaveSoon has pods leave a lost node after seconds; usual are five minutes.
func leaveSoon(p *core.PodSpec) {
	for _, key := range []string{core.TaintNodeNotReady, core.TaintNodeUnreachable} {
		soon := int64(5)
		p.Tolerations = append(p.Tolerations, core.Toleration{Key: key, Operator: core.TolerationOpExists, Effect: core.TaintEffectNoExecute, TolerationSeconds: &soon})
	}
}

// deployment has pods as services have them: a container with resources, an
// environment and a port. It has no probes, because not everything that stands in
// for nodes calls them.
func deployment(namespace, name string, replicas int32) *apps.Deployment {
	labels := map[string]string{appLabel: name, runLabel: "deployment", "tier": "backend", "team": "payments"}
	resources := func(cpu, memory string) core.ResourceList {
		return core.ResourceList{core.ResourceCPU: resource.MustParse(cpu), core.ResourceMemory: resource.MustParse(memory)}
	}
	return &apps.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: apps.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{appLabel: name}},
			Template: core.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{"example.com/revision": "1"}},
				Spec: core.PodSpec{
					Containers: []core.Container{{
						Name:  "app",
						Image: "registry.example.com/payments/app:1.0.0",
						Ports: []core.ContainerPort{{Name: "http", ContainerPort: 8080}},
						Env: []core.EnvVar{
							{Name: "LOG_LEVEL", Value: "info"},
							{Name: "POD_NAME", ValueFrom: &core.EnvVarSource{FieldRef: &core.ObjectFieldSelector{FieldPath: "metadata.name"}}},
						},
						Resources: core.ResourceRequirements{Requests: resources("10m", "16Mi"), Limits: resources("100m", "64Mi")},
					}},
				},
			},
		},
	}
}

// namespaces are those of the Deployments, each once.
func namespaces(of []*apps.Deployment) (out []string) {
	for _, d := range of {
		if len(out) == 0 || out[len(out)-1] != d.Namespace {
			out = append(out, d.Namespace)
		}
	}
	return out
}

// createNamespaces makes them, and waits until pods can be made in them.
func createNamespaces(ctx context.Context, client kubernetes.Interface, names []string) error {
	return all(ctx, names, func(ctx context.Context, name string) error {
		_, err := client.CoreV1().Namespaces().Create(ctx, &core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		return poll(ctx, func() (bool, error) {
			_, err := client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
			return err == nil, nil
		})
	})
}

// all does something with each of some things, as many at a time as there are clients.
func all[T any](ctx context.Context, things []T, do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for _, thing := range things {
		group.Go(func() error { return do(ctx, thing) })
	}
	return group.Wait()
}
