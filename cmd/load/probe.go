package load

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// probes make calls for single objects while the load runs, at a steady pace, each
// as soon as its time has come, whether or not those before have been answered.
type probes struct {
	client    kubernetes.Interface
	namespace string
	mu        sync.Mutex
	took      map[string][]time.Duration
	failed    int
	failure   error
}

func newProbes(client kubernetes.Interface, namespace string) *probes {
	return &probes{client: client, namespace: namespace, took: map[string][]time.Duration{}}
}

// probed is how many objects are read and patched by turns, so many that a patch
// does not wait for the one before.
const probed = 60

// prepare makes what is read and patched.
func (p *probes) prepare(ctx context.Context) error {
	return all(ctx, indices(probed), func(ctx context.Context, n int) error {
		_, err := p.client.CoreV1().ConfigMaps(p.namespace).Create(ctx, configMap("probed", n), metav1.CreateOptions{})
		return err
	})
}

// indices are the numbers below n.
func indices(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

func configMap(name string, n int) *core.ConfigMap {
	return &core.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", name, n)}, Data: map[string]string{"key": "value"}}
}

// follow probes until ctx ends, and returns when all answers are there.
func (p *probes) follow(ctx context.Context, perSecond float64) {
	if perSecond <= 0 {
		return
	}
	var calls sync.WaitGroup
	defer calls.Wait()
	every := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer every.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			calls.Go(func() { p.call(context.WithoutCancel(ctx), n) })
		}
	}
}

func (p *probes) call(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	maps := p.client.CoreV1().ConfigMaps(p.namespace)
	began := time.Now()
	var err error
	verb := []string{"get", "create", "patch"}[n%3]
	switch verb {
	case "get":
		_, err = maps.Get(ctx, fmt.Sprintf("probed-%d", n%probed), metav1.GetOptions{})
	case "create":
		_, err = maps.Create(ctx, configMap("made", n), metav1.CreateOptions{})
	case "patch":
		patch := fmt.Appendf(nil, `{"data":{"key":"%d"}}`, n)
		_, err = maps.Patch(ctx, fmt.Sprintf("probed-%d", n%probed), types.MergePatchType, patch, metav1.PatchOptions{})
	}
	took := time.Since(began)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed, p.failure = p.failed+1, fmt.Errorf("%s a ConfigMap: %w", verb, err)
		return
	}
	p.took[verb] = append(p.took[verb], took)
}

// calls is what was measured.
func (p *probes) calls() (out []Call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, verb := range []string{"get", "create", "patch"} {
		if took := p.took[verb]; len(took) > 0 {
			out = append(out, Call{Verb: verb, Count: len(took), Latency: latencyOf(took)})
		}
	}
	return out
}

// position is the sequence, or revision, of a write made now. A revision counts all writes
// of all objects, a sequence those of the history alone: Leases and Kubernetes Events have
// another log.
func position(ctx context.Context, client kubernetes.Interface, namespace string) (int64, error) {
	m, err := client.CoreV1().ConfigMaps(namespace).Patch(ctx, "probed-0", types.MergePatchType,
		fmt.Appendf(nil, `{"data":{"key":"at %d"}}`, time.Now().UnixNano()), metav1.PatchOptions{})
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(m.ResourceVersion, 10, 64)
}
