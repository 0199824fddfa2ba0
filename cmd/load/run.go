package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Target is a cluster that runs, and is empty but for its nodes.
type Target struct {
	// Side is what it is called in results.
	Side   string
	Config *rest.Config
	// Control are the processes of the control plane, and Nodes those that stand for
	// the nodes.
	Control, Nodes Processes
	// Data are the directories in which the control plane keeps what must last.
	Data []string
	// Fail kills what runs the nodes that are to be lost. Only the scenario of failure
	// needs it.
	Fail func() error
	// Ended, if it is not nil, says which process has ended that should run, and why. It is
	// asked once a second by a goroutine of its own, and ends the scenario.
	Ended func() error
}

// Options are how to load.
type Options struct {
	// Within is how long the pods may take to become ready, and again to go.
	Within time.Duration
	// Probes is how many calls for single objects are made in a second of load.
	Probes float64
	// Idle is how long the cluster does nothing before the load: a program that has just been
	// started may be unlike one that has run for long.
	Idle time.Duration
	// Leave leaves what was made, for those who remove the whole cluster anyway.
	Leave bool
	// Beside, if it is not nil, runs while pods become ready, in the scenarios Deploy
	// and Watchers, and they are deleted when it is done: a profile is taken so.
	Beside func(context.Context) error
	// Say hears how it goes on, if it is not nil.
	Say func(format string, args ...any)
}

// maxProbes keeps the probes from being the load.
const maxProbes = 10_000

// Check refuses what nothing can be measured with. The names are those of the flags, as both
// programs have them.
func (o Options) Check() error {
	switch {
	case o.Within <= 0:
		return fmt.Errorf("--within %v: give the pods some time", o.Within)
	case o.Idle < 0:
		return fmt.Errorf("--idle %v: a time must not be negative", o.Idle)
	case !(o.Probes >= 0 && o.Probes <= maxProbes): // and no NaN
		return fmt.Errorf("--probes %v: make from 0 to %s calls a second", o.Probes, thousands(maxProbes))
	}
	return nil
}

// errTime is why a wait ended that had lasted as long as it may.
var errTime = errors.New("the time is up")

// run is one scenario on one target.
type run struct {
	Options
	target      Target
	scenario    Scenario
	client      kubernetes.Interface
	deployments []*apps.Deployment
	observer    *observer
	memory      *memory
	result      *Result

	mu    sync.Mutex
	asked map[string]time.Time // when each Deployment was asked to change
}

// Client returns a configuration as those have it who mean to be fast: no limit
// of their own, and protobuf.
func Client(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.QPS = -1
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return c
}

// Run carries out a scenario. An error means that nothing was measured.
func Run(ctx context.Context, t Target, s Scenario, o Options) (*Result, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if s.Kind == Failure && t.Fail == nil {
		return nil, fmt.Errorf("%s: it is not known which process runs the nodes that are to be lost", s)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if t.Ended != nil {
		go func() { cancel(poll(ctx, func() (bool, error) { return false, t.Ended() })) }()
	}
	client, err := kubernetes.NewForConfig(Client(t.Config))
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, target: t, scenario: s, client: client, deployments: deployments(s),
		memory: &memory{processes: t.Control}, result: &Result{Scenario: s, Side: t.Side, Measured: measured(t)}}
	if err := r.nodes(ctx); err != nil { // and nothing has been made that must go
		return nil, fmt.Errorf("%s on %s: %w", s, t.Side, cmp.Or(context.Cause(ctx), err))
	}
	if !o.Leave {
		defer r.clear(context.WithoutCancel(ctx))
	}
	if err := r.prepare(ctx); err != nil {
		return nil, fmt.Errorf("%s on %s: %w", s, t.Side, cmp.Or(context.Cause(ctx), err))
	}
	go r.memory.follow(ctx)
	r.result.Began, r.result.MachineLoad[0] = time.Now().UTC(), machineLoad()
	carry := map[Kind]func(context.Context) error{Deploy: r.deploy, Rolling: r.roll, Failure: r.fail, Watchers: r.watchers}
	err = carry[s.Kind](ctx)
	if errors.Is(err, errTime) {
		r.result.Missing, err = err.Error(), nil
	}
	r.result.MachineLoad[1], r.result.Relists = machineLoad(), r.observer.relists-1
	m := r.memory.look()
	r.result.PeakBytes, r.result.EndBytes, r.result.PeakAnonymousBytes = m.peak, m.now, m.anonymous
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", s, t.Side, cmp.Or(context.Cause(ctx), err))
	}
	return r.result, nil
}

// probing is the namespace of the calls for single objects.
const probing = "load-probes"

// prepare makes the namespaces, begins to observe, and waits until the cluster has nothing
// more to do.
func (r *run) prepare(ctx context.Context) (err error) {
	if err := createNamespaces(ctx, r.client, append(namespaces(r.deployments), probing)); err != nil {
		return err
	}
	if err := newProbes(r.client, probing).prepare(ctx); err != nil {
		return err
	}
	if r.observer, err = observe(ctx, r.target.Config); err != nil {
		return err
	}
	if err := r.quiet(ctx); err != nil {
		return err
	}
	return r.idle(ctx)
}

// idle lets a cluster that has nothing to do be for as long as was asked for.
func (r *run) idle(ctx context.Context) error {
	if r.Idle == 0 {
		return nil
	}
	r.Say("%s: it does nothing for %v", r.target.Side, r.Idle)
	select {
	case <-time.After(r.Idle):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// clear removes what was made, as far as it can.
func (r *run) clear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, name := range append(namespaces(r.deployments), probing) {
		err := r.client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
		if err == nil {
			err = poll(ctx, func() (bool, error) {
				_, err := r.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
				return apierrors.IsNotFound(err), nil
			})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			r.Say("%s: namespace %s is left behind: %v", r.target.Side, name, err)
		}
	}
}

// nodes waits until there are as many ready nodes as the scenario wants.
func (r *run) nodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Within, errTime)
	defer cancel()
	ready, looks := 0, 0
	err := poll(ctx, func() (bool, error) {
		list, err := r.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return false, err
		}
		ready = 0
		for i := range list.Items {
			if readyNode(&list.Items[i]) {
				ready++
			}
		}
		if ready < r.scenario.Nodes && looks%sayEvery == 0 {
			r.Say("%s: %d of %s ready", r.target.Side, ready, nodesAre(r.scenario.Nodes))
		}
		looks++
		return ready >= r.scenario.Nodes, nil
	})
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errTime): // and no error that it gave to a call
		return fmt.Errorf("%d of %s ready after %v: start more, or ask for fewer in the scenario", ready, nodesAre(r.scenario.Nodes), r.Within)
	case err != nil:
		return fmt.Errorf("%d of %s ready: %w", ready, nodesAre(r.scenario.Nodes), err)
	}
	r.Say("%s: %s ready", r.target.Side, nodesAre(ready))
	return nil
}

// nodesAre is how many nodes something is said of.
func nodesAre(n int) string {
	if n == 1 {
		return "1 node is"
	}
	return thousands(n) + " nodes are"
}

func readyNode(n *core.Node) bool {
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == core.NodeReady {
			return c.Status == core.ConditionTrue
		}
	}
	return false
}

const (
	// pollEvery is how often what cannot be watched is looked at.
	pollEvery = time.Second
	// sayEvery is at which of these looks a person hears what is waited for.
	sayEvery = 10
)

// poll asks again and again, and at once, until the answer is yes.
func poll(ctx context.Context, is func() (bool, error)) error {
	for every := time.NewTicker(pollEvery); ; {
		if done, err := is(); done || err != nil {
			every.Stop()
			return err
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			every.Stop()
			return context.Cause(ctx)
		}
	}
}

// ask does something with each Deployment, and writes down when.
func (r *run) ask(ctx context.Context, do func(context.Context, *apps.Deployment) error) error {
	r.asked = map[string]time.Time{}
	return all(ctx, r.deployments, func(ctx context.Context, d *apps.Deployment) error {
		r.mu.Lock()
		r.asked[d.Name] = time.Now()
		r.mu.Unlock()
		return do(ctx, d)
	})
}

func (r *run) create(ctx context.Context, d *apps.Deployment) error {
	_, err := r.client.AppsV1().Deployments(d.Namespace).Create(ctx, d, metav1.CreateOptions{})
	return err
}

func (r *run) change(ctx context.Context, d *apps.Deployment) error {
	_, err := r.client.AppsV1().Deployments(d.Namespace).Patch(ctx, d.Name, types.StrategicMergePatchType,
		[]byte(`{"spec":{"template":{"metadata":{"annotations":{"example.com/revision":"2"}}}}}`), metav1.PatchOptions{})
	return err
}

func (r *run) remove(ctx context.Context, d *apps.Deployment) error {
	return r.client.AppsV1().Deployments(d.Namespace).Delete(ctx, d.Name, metav1.DeleteOptions{})
}

// available waits until the Deployments say that all their pods are available.
func (r *run) available(ctx context.Context) error {
	return all(ctx, namespaces(r.deployments), func(ctx context.Context, namespace string) error {
		return poll(ctx, func() (bool, error) {
			list, err := r.client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			for i := range list.Items {
				d := &list.Items[i]
				if s := d.Status; s.ObservedGeneration < d.Generation || s.UpdatedReplicas < *d.Spec.Replicas ||
					s.AvailableReplicas < *d.Spec.Replicas || s.Replicas != *d.Spec.Replicas {
					return false, nil
				}
			}
			return true, nil
		})
	})
}
