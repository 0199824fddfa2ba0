// Package node runs the pods that are bound to one node, and says what becomes of
// them. It follows the cluster's view of its pods and the container runtime's
// view of what runs, has agents/node/plan compute the next actions of each pod,
// carries them out, and proposes what happened as events. cmd starts one agent a
// node, in the server's process or in its own.
//
// What must hold: nothing that the agent knows alone matters. All state is the
// cluster's or the runtime's, so an agent that is killed and started again finds
// everything by looking, disturbs no container, and tells each end of a container
// once: the runtime forgets none before the log has it.
//
//	changes of the view, events of the runtime, probes, time
//	        │ kick
//	   ┌────▼─────────────── one worker a pod ───────────────────────┐
//	   │ observe (CRI) → tell (status, events) → plan → act, in parallel │
//	   └──────────────────────────────────────────────────────────────┘
//
// The agent never decides where a pod runs and never changes what a pod should be.
package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/agents/crew"
	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/agents/node/hooks"
	"github.com/reprise-run/reprise/agents/node/probes"
	"github.com/reprise-run/reprise/agents/node/runtime"
	"github.com/reprise-run/reprise/agents/node/volumes"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// Cgroups makes and removes the control groups of pods. See runtime.Cgroups.
type Cgroups interface {
	EnsurePod(uid string, limits runtime.Limits) (parent string, err error)
	Parent(uid string) string
	RemovePod(uid string) error
	Pods() ([]string, error)
}

// Options is what an agent needs.
type Options struct {
	// Name is the node's.
	Name string
	// Version is this program's, for events; KubernetesVersion is the version
	// that the node shows as its kubelet's, such as v1.37.1.
	Version, KubernetesVersion string
	// Projection has at least the node's objects: itself, its pods, and the
	// ConfigMaps, Secrets, Services and volumes that they use. It must have
	// caught up when Run is called: a pod that it does not have is removed.
	Projection live.Projection
	Proposer   events.Proposer
	// Containers and Images are the container runtime. Cgroups may be nil.
	Containers runtimeapi.RuntimeServiceClient
	Images     runtimeapi.ImageServiceClient
	Cgroups    Cgroups
	// Tokens asks the API for tokens of service accounts.
	Tokens volumes.Tokens
	// Alive tells the servers that the node is there, and says whether its Lease is
	// to be renewed. If it is nil, the Lease is renewed each time.
	Alive func(ctx context.Context) (renew bool, err error)
	// Heard is when the newest of those proposals was sent by which the servers know that
	// the node is there, zero if there is none. Soon after that Alive need not be called.
	// May be nil.
	Heard func() time.Time
	// Listener takes the API's connections for logs, exec, attach and
	// port-forward. May be nil.
	Listener net.Listener
	// RootDir is the agent's own directory: pods, logs.
	RootDir string
	// Disk, Machine and Prober take the place of the real ones, which are used
	// where these are nil: what is kept in RootDir, what this machine is, and how
	// the probes of containers are carried out.
	Disk    Disk
	Machine func() Machine
	Prober  probes.Caller
	// Addresses are the node's; the first is the one that counts.
	Addresses []string
	// Labels and Taints are those that the node registers with.
	Labels map[string]string
	Taints []v1.Taint
	// PodCIDRs are the ranges of the node's pods, if it has its own.
	PodCIDRs []string
	// DNS and Domain are the cluster's; both may be empty.
	DNS    []string
	Domain string
	// Hides says that the runtime's shim puts hidden texts in their place, so that
	// values of Secrets can be kept from the runtime; see runtime.Config.Hides.
	Hides bool
	// MaxPods is how many pods the node takes, 110 if zero.
	MaxPods int
	// Crew runs what is done for pods; the agent has one of its own if it is nil.
	Crew *crew.Crew
	// Clock and Log may be nil.
	Clock clock.WithTicker
	Log   *slog.Logger
}

// busy is how many actions on the runtime may be under way at a time.
const busy = 16

// Agent runs the pods of one node.
type Agent struct {
	o      Options
	actor  events.Actor
	node   crispec.Node
	disk   Disk
	probes *probes.Prober
	hooks  *hooks.Caller
	slots  chan struct{}
	crew   *crew.Crew
	log    *slog.Logger

	running sync.WaitGroup

	// found is what the node found when it looked at itself last, and had nothing to tell.
	found atomic.Pointer[self]
	// links are the variables that were made of services last.
	links atomic.Pointer[links]

	mu      sync.Mutex
	workers map[types.UID]*worker
	// wake starts the goroutine of a worker that rests. It is nil while the agent does
	// not run.
	wake func(*worker)
}

// New returns an agent that is ready to run.
func New(o Options) (*Agent, error) {
	switch {
	case o.Name == "":
		return nil, errors.New("a node agent needs a name")
	case o.RootDir == "" && o.Disk == nil:
		return nil, errors.New("a node agent needs a directory of its own")
	case o.Projection == nil, o.Proposer == nil, o.Containers == nil, o.Images == nil:
		return nil, errors.New("a node agent needs a projection, a proposer and a container runtime")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MaxPods == 0 {
		o.MaxPods = 110
	}
	if o.Machine == nil {
		o.Machine = func() Machine { return inspect(o.RootDir) }
	}
	machine := o.Machine()
	a := &Agent{
		o: o, log: o.Log.With("node", o.Name),
		actor: events.Actor{Kind: "node", Name: o.Name, Version: o.Version},
		node: crispec.Node{
			Name: o.Name, HostIPs: o.Addresses, Memory: machine.Memory, Allocatable: machine.allocatable(o.MaxPods),
			Logs: filepath.Join(o.RootDir, "logs"), DNS: o.DNS, Domain: o.Domain, Resolv: machine.Resolv, Hides: o.Hides,
		},
		slots:   make(chan struct{}, busy),
		crew:    o.Crew,
		workers: map[types.UID]*worker{},
	}
	if a.disk = o.Disk; a.disk == nil {
		var err error
		if a.disk, err = newDisk(o.RootDir, o.Tokens, a.node.Allocatable, o.Clock.Now); err != nil {
			return nil, err
		}
	}
	a.hooks = hooks.NewCaller(o.Containers)
	if o.Prober == nil {
		o.Prober = a.hooks
	}
	a.probes = probes.New(o.Prober, o.Clock, a.kick)
	return a, nil
}

// Run runs the node's pods until ctx ends, and leaves them running then.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer a.running.Wait()
	defer a.waking(nil)
	defer cancel()
	if a.o.Crew == nil {
		a.crew = crew.New(ctx)
	}
	a.waking(func(w *worker) {
		a.running.Add(1)
		a.crew.Go(func() {
			defer a.running.Done()
			w.run(ctx)
		})
	})
	if err := a.register(ctx); err != nil {
		return err
	}
	changes, err := a.discover(ctx)
	if err != nil {
		return err
	}
	a.start(func() { a.renew(ctx) })
	a.start(func() { a.observeNode(ctx) })
	a.start(func() { a.watchRuntime(ctx) })
	if a.o.Disk == nil {
		a.start(func() { a.rotate(ctx) })
	}
	if a.o.Listener != nil {
		a.start(func() { a.serve(ctx) })
	}
	return a.follow(ctx, changes)
}

func (a *Agent) start(f func()) {
	a.running.Add(1)
	go func() {
		defer a.running.Done()
		f()
	}()
}

func (a *Agent) waking(wake func(*worker)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wake = wake
}

// kick makes a pod's worker look again.
func (a *Agent) kick(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[uid]; w != nil {
		w.kick()
	}
}

// knows says whether a pod has a worker.
func (a *Agent) knows(uid types.UID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.workers[uid] != nil
}

// see makes sure that a pod has a worker, and has it look.
func (a *Agent) see(uid types.UID, ref events.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workers[uid]
	if w == nil {
		w = newWorker(a, uid, ref)
		a.workers[uid] = w
	}
	w.kick()
}

// hear makes sure that a pod has a worker, and has it look at a version of the pod that
// it has not seen: mostly what is new of a pod is what its worker told. A version older
// than the last is of a log that was restored, and may lack what was told.
func (a *Agent) hear(e *projections.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workers[types.UID(e.UID)]
	if w == nil {
		w = newWorker(a, types.UID(e.UID), e.Ref)
		a.workers[w.uid] = w
	}
	if e.Sequence > w.seen || e.Sequence < w.heard {
		w.wake()
	}
	w.heard = e.Sequence
}

// looks says that a worker is going to look, and so need not be told to.
func (a *Agent) looks(w *worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.pressed = false
	w.calm()
}

// saw says which version of the pod a worker has seen.
func (a *Agent) saw(w *worker, sequence uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.seen = sequence
	if !w.pressed && w.heard <= w.seen {
		w.calm()
	}
}

// rest ends the goroutine of a worker that has nothing to do, unless it was asked to
// look again meanwhile. The worker of a pod of which nothing is left goes with it.
func (a *Agent) rest(w *worker, gone bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(w.kicked) > 0 {
		return false
	}
	w.awake = false
	if gone {
		delete(a.workers, w.uid)
	}
	return true
}

// all returns the pods that have workers.
func (a *Agent) all() []types.UID {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []types.UID
	for uid := range a.workers {
		out = append(out, uid)
	}
	return out
}

// sleep waits, and says whether ctx still goes on.
func (a *Agent) sleep(ctx context.Context, d time.Duration) bool {
	timer := a.o.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}
