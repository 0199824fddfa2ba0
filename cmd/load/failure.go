package load

import (
	"context"
	"errors"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
)

// losses writes down when nodes were seen to be lost.
type losses struct {
	mu      sync.Mutex
	lost    map[string]time.Time
	changed chan struct{}
}

// watchNodes writes down losses until ctx ends.
func (r *run) watchNodes(ctx context.Context) *losses {
	l := &losses{lost: map[string]time.Time{}, changed: make(chan struct{}, 1)}
	see := func(object any) {
		node := object.(*core.Node)
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, known := l.lost[node.Name]; known || readyNode(node) {
			return
		}
		l.lost[node.Name] = time.Now()
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(r.client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll, fields.Everything()),
		ObjectType:    &core.Node{},
		Handler:       cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, object any) { see(object) }},
	})
	go informer.RunWithContext(ctx)
	return l
}

// await waits until some nodes have been lost.
func (l *losses) await(ctx context.Context, want int) error {
	for {
		l.mu.Lock()
		have := len(l.lost)
		l.mu.Unlock()
		if have >= want {
			return nil
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
			return missed(context.Cause(ctx), "%d of %d nodes are seen to be lost", have, want)
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
	nodes := r.watchNodes(watch)
	old := r.observer.forget()
	if err := r.quiet(ctx); err != nil {
		return err
	}
	killed := time.Now()
	if err := r.target.Fail(); err != nil {
		return err
	}
	r.Say("%s: %d nodes are cut off", r.target.Side, r.scenario.Lost)
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
		for _, l := range old {
			if _, lost := nodes.lost[l.node]; lost {
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
	nodes.mu.Lock()
	first := killed.Add(time.Hour)
	for _, at := range nodes.lost {
		seen = append(seen, at.Sub(killed))
		if at.After(last) {
			last = at
		}
		if at.Before(first) {
			first = at
		}
	}
	nodes.mu.Unlock()
	r.add("seen lost", r.scenario.Lost, last.Sub(killed), "the loss", seen)
	r.steps(homeless, first, "the first was seen", func(*life) time.Time { return first })
	r.step("elsewhere", homeless, killed, "the loss", func(*life) time.Time { return killed }, func(l *life) time.Time { return l.running })
	r.up(from, to, r.result.Step("running").Count)
	return late
}
