package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// hollowNodes is how many nodes a cluster has.
const hollowNodes = 5

// clusterSubject is `reprise server`, with hollow nodes and clients of its API. The
// nodes' machine is not the server's: their agent lives through its faults, and has
// its own.
type clusterSubject struct {
	binary, home string
	api, nats    string // addresses, the same at every start
	agent        *process
	client       kubernetes.Interface
	book         *registry
	began        bool // whether what is always there is
}

func newClusterSubject(binary, home string) *clusterSubject {
	return &clusterSubject{binary: binary, home: home, api: freeAddress(), nats: freeAddress(), book: newRegistry()}
}

// freeAddress is one on which nobody listens now, and whose port the kernel gives to no
// connection: those are from 32,768 on. A server must get it back at each start.
func freeAddress() string {
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
		if err == nil && l.Close() == nil {
			return l.Addr().String()
		}
	}
	return "127.0.0.1:0" // which the server will complain of
}

func (s *clusterSubject) command(dir string, args ...string) *exec.Cmd {
	return exec.Command(s.binary, append([]string{"--data-dir", filepath.Join(dir, "reprise"), "--run-dir", filepath.Join(s.home, "run")}, args...)...)
}

// start implements subject.
func (s *clusterSubject) start(dir string) (*process, error) {
	return startProcess(s.command(dir, "server", "--listen", s.api, "--nats-listen", s.nats))
}

// ready implements subject. An agent that has ended is started again.
func (s *clusterSubject) ready(ctx context.Context, p *process, dir string) error {
	if err := p.awaitReady(ctx); err != nil {
		return err
	}
	if s.client == nil {
		// The clients keep what they were given at the beginning: the server's
		// certificates must last too.
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "reprise", "admin.kubeconfig"))
		if err != nil {
			return err
		}
		config.QPS = -1
		if s.client, err = kubernetes.NewForConfig(config); err != nil {
			return err
		}
	}
	if s.agent == nil || !s.agent.running() {
		if err := s.startAgent(ctx, dir); err != nil {
			return err
		}
	}
	if s.began {
		return nil
	}
	s.began = true
	return s.furnish(ctx)
}

// awaitReady returns when a program of ours says that it is.
func (p *process) awaitReady(ctx context.Context) error {
	for {
		line, err := p.line(ctx)
		if err != nil || strings.HasPrefix(line, "Ready.") {
			return err
		}
	}
}

func (s *clusterSubject) startAgent(ctx context.Context, dir string) (err error) {
	if s.agent, err = startProcess(s.command(dir, "agent", "--hollow", fmt.Sprint(hollowNodes))); err != nil {
		return err
	}
	return s.agent.awaitReady(ctx)
}

const namespace, deployment = "torture", "web"

// furnish makes what is there from the first round on.
func (s *clusterSubject) furnish(ctx context.Context) error {
	labels := map[string]string{"app": deployment}
	_, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	replicas := int32(3)
	_, err = s.client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: deployment},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "hollow"}}},
			},
		},
	}, metav1.CreateOptions{})
	return err
}

// load implements subject.
func (s *clusterSubject) load(ctx context.Context, name string, clients int, random *rand.Rand) (func(dead bool), error) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	for i := range clients {
		w := &writer{name: fmt.Sprintf("%s-%d", name, i), random: rand.New(rand.NewPCG(random.Uint64(), 0)), client: s.client, book: s.book}
		done.Go(func() { w.run(ctx) })
	}
	if scaler := rand.New(rand.NewPCG(random.Uint64(), 0)); scaler.IntN(2) == 0 {
		done.Go(func() { s.scale(ctx, scaler) })
	}
	if random.IntN(4) == 0 {
		// The nodes' machine dies with its pods; it comes back when the server does.
		after := time.Duration(random.Int64N(int64(time.Second)))
		done.Go(func() { pause(ctx, after); s.agent.kill() })
	}
	return func(bool) { cancel(); done.Wait() }, nil
}

// scale asks for other numbers of pods until ctx ends.
func (s *clusterSubject) scale(ctx context.Context, random *rand.Rand) {
	for ctx.Err() == nil {
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, random.IntN(12))
		// Whether it arrives does not matter: what is there must come true.
		_, _ = s.client.AppsV1().Deployments(namespace).Patch(ctx, deployment, "application/merge-patch+json", patch, metav1.PatchOptions{})
		pause(ctx, time.Duration(random.Int64N(int64(300*time.Millisecond))))
	}
}

// check implements subject: objects, `reprise verify`, and that the pods come to be
// what the Deployment says.
func (s *clusterSubject) check(ctx context.Context, _ *process, dir string) error {
	have, err := s.objects(ctx)
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	if err := s.book.check(have); err != nil {
		return err
	}
	if out, err := s.command(dir, "verify").CombinedOutput(); err != nil {
		return fmt.Errorf("verify: %w\n%s", err, out)
	}
	return s.converge(ctx, dir)
}

// objects lists what the clients write, from the log's own state.
func (s *clusterSubject) objects(ctx context.Context) (map[string]object, error) {
	have := make(map[string]object)
	maps, err := s.client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, o := range maps.Items {
		if o.Name != "kube-root-ca.crt" {
			have["configmap "+o.Name] = object{o.Data["payload"], o.ResourceVersion}
		}
	}
	secrets, err := s.client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, o := range secrets.Items {
		have["secret "+o.Name] = object{string(o.Data["payload"]), o.ResourceVersion}
	}
	leases, err := s.client.CoordinationV1().Leases(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, o := range leases.Items {
		have["lease "+o.Name] = object{*o.Spec.HolderIdentity, o.ResourceVersion}
	}
	return have, nil
}

// converge waits until as many pods run as are asked for, and no others.
func (s *clusterSubject) converge(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	state := "unknown"
	for ; ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		if !s.agent.running() {
			if err := s.startAgent(ctx, dir); err != nil {
				return fmt.Errorf("starting the nodes: %w", err)
			}
		}
		d, err := s.client.AppsV1().Deployments(namespace).Get(ctx, deployment, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := s.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		running := 0
		for _, p := range pods.Items {
			if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
				running++
			}
		}
		want := int(*d.Spec.Replicas)
		state = fmt.Sprintf("%d replicas are asked for and %d ready; of %d pods %d run", want, d.Status.ReadyReplicas, len(pods.Items), running)
		if running == want && len(pods.Items) == want && int(d.Status.ReadyReplicas) == want && d.Status.ObservedGeneration == d.Generation {
			return nil
		}
	}
	return fmt.Errorf("the cluster does not converge in %v: %s\n%s", 2*patience, state, s.agent.errors)
}

// counts implements subject.
func (s *clusterSubject) counts() tally { return s.book.counts }

// close implements subject.
func (s *clusterSubject) close() error {
	if s.agent == nil {
		return nil
	}
	return s.agent.end()
}
