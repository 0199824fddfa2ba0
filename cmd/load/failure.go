package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
)

// losses writes down when nodes were seen to be lost that were ready when some were cut off.
// A node that was lost before, or never was there, is none of them.
type losses struct {
	mu      sync.Mutex
	ready   map[string]bool
	cut     bool // some have been cut off
	lost    map[string]time.Time
	changed chan struct{}
}

func newLosses() *losses {
	return &losses{ready: map[string]bool{}, lost: map[string]time.Time{}, changed: make(chan struct{}, 1)}
}

// see takes note of a node as it is now.
func (l *losses) see(node string, ready bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.ready[node]
	l.ready[node] = ready
	if _, known := l.lost[node]; known || !l.cut || !was || ready {
		return
	}
	l.lost[node] = now
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// begin counts from now on, unless nodes would not be left if some are lost.
func (l *losses) begin(lose int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ready := 0
	for _, is := range l.ready {
		if is {
			ready++
		}
	}
	if ready <= lose {
		return fmt.Errorf("%s ready and %d to be lost, so that none is left for the pods: start more nodes, or lose fewer; nothing was killed", nodesAre(ready), lose)
	}
	l.cut = true
	return nil
}

// have returns a copy of what was seen until now.
func (l *losses) have() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.lost)
}

// watchNodes writes down losses until ctx ends, and returns when it has seen all nodes once.
func (r *run) watchNodes(ctx context.Context) (*losses, error) {
	l := newLosses()
	see := func(object any) {
		node := object.(*core.Node)
		l.see(node.Name, readyNode(node), time.Now())
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(r.client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll, fields.Everything()),
		ObjectType:    &core.Node{},
		Handler:       cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, object any) { see(object) }},
	})
	go informer.RunWithContext(ctx)
	return l, poll(ctx, func() (bool, error) { return informer.HasSynced(), nil })
}

// await waits until some nodes have been lost.
func (l *losses) await(ctx context.Context, want int) error {
	for {
		have := len(l.have())
		if have >= want {
			return nil
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
			return missed(context.Cause(ctx), "%d of %s seen to be lost", have, nodesAre(want))
		}
	}
}

// seen waits until some nodes are seen to be lost.
func (r *run) seen(ctx context.Context, nodes *losses, want int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Within, errTime)
	defer cancel()
	return nodes.await(ctx, want)
}

// fail is the scenario of nodes that are lost: their pods come to be elsewhere. Where they
// were they stay as long as the nodes do, so that none is seen to go.
func (r *run) fail(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	nodes, err := r.watchNodes(watch)
	if err != nil {
		return err
	}
	old := r.observer.forget()
	if err := r.quiet(ctx); err != nil {
		return err
	}
	if err := nodes.begin(r.scenario.Lost); err != nil {
		return err
	}
	killed := time.Now()
	if err := r.target.Fail(); err != nil {
		return err
	}
	r.result.Measured = measured(r.target) // What was killed is not counted.
	r.Say("%s: %s cut off", r.target.Side, nodesAre(r.scenario.Lost))
	// Until then there is nothing to do but to be patient.
	if err := r.seen(ctx, nodes, 1); err != nil {
		return err
	}
	from, err := r.read(ctx)
	if err != nil {
		return err
	}
	homeless := 0
	late := r.under(ctx, func(ctx context.Context) error {
		if err := r.seen(ctx, nodes, r.scenario.Lost); err != nil {
			return err
		}
		lost := nodes.have()
		for _, l := range old {
			if _, is := lost[l.node]; is {
				homeless++
			}
		}
		return r.await(ctx, "ready elsewhere", func(t tally) (int, int) { return t.running, homeless })
	})
	if late != nil && !errors.Is(late, errTime) {
		return late
	}
	to, err := r.read(ctx)
	if err != nil {
		return err
	}
	seen, last := []time.Duration(nil), killed
	first := killed.Add(time.Hour)
	for _, at := range nodes.have() {
		seen = append(seen, at.Sub(killed))
		if at.After(last) {
			last = at
		}
		if at.Before(first) {
			first = at
		}
	}
	r.add("seen lost", r.scenario.Lost, last.Sub(killed), "the loss", seen)
	r.steps(homeless, first, "the first was seen", func(*life) time.Time { return first })
	r.step("elsewhere", homeless, killed, "the loss", func(*life) time.Time { return killed }, func(l *life) time.Time { return l.running })
	r.up(from, to, r.result.Step("running").Count)
	return late
}
