package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// watchersPerConnection is how many watches share a connection: a hundred is what
// an API server allows.
const watchersPerConnection = 50

// audience is many clients that watch the same pods.
type audience struct {
	mu    sync.Mutex
	heard [][]time.Time // when each watcher heard of each event
	cut   []bool        // whose watch the server has ended
}

// listen starts the watchers, which begin at the same version and hear until ctx
// ends.
func (r *run) listen(ctx context.Context, namespace string) (*audience, error) {
	list, err := r.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	a := &audience{heard: make([][]time.Time, r.scenario.Watchers), cut: make([]bool, r.scenario.Watchers)}
	var client *kubernetes.Clientset
	for i := range a.heard {
		if i%watchersPerConnection == 0 {
			// What dials by itself gets a connection of its own.
			config := rest.CopyConfig(Client(r.target.Config))
			config.Dial = (&net.Dialer{}).DialContext
			if client, err = kubernetes.NewForConfig(config); err != nil {
				return nil, err
			}
		}
		stream, err := client.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").
			VersionedParams(&metav1.ListOptions{Watch: true, ResourceVersion: list.ResourceVersion}, scheme.ParameterCodec).Stream(ctx)
		if err != nil {
			return nil, fmt.Errorf("watcher %d: %w", i, err)
		}
		go a.follow(i, stream)
	}
	return a, nil
}

// follow notes the time of each event and does not read what it says: the frames
// of a watch in protobuf begin with their length.
func (a *audience) follow(i int, stream io.ReadCloser) {
	defer func() {
		stream.Close()
		a.mu.Lock()
		a.cut[i] = true
		a.mu.Unlock()
	}()
	in := bufio.NewReader(stream)
	for {
		var length [4]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return
		}
		if _, err := in.Discard(int(binary.BigEndian.Uint32(length[:]))); err != nil {
			return
		}
		now := time.Now()
		a.mu.Lock()
		a.heard[i] = append(a.heard[i], now)
		a.mu.Unlock()
	}
}

// count is how much all have heard, how much they would have if each had heard what
// one has, and whether only those have not whom the server has cut off.
func (a *audience) count() (total, want int, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := 0
	for _, h := range a.heard {
		total += len(h)
		most = max(most, len(h))
	}
	all = true
	for i, h := range a.heard {
		all = all && (len(h) == most || a.cut[i])
	}
	return total, most * len(a.heard), all
}

// behind is how long after the first watcher the others heard of each event.
func (a *audience) behind() (took []time.Duration, last time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := 0; ; n++ {
		var first time.Time
		some := false
		for _, h := range a.heard {
			if n < len(h) && (!some || h[n].Before(first)) {
				first, some = h[n], true
			}
		}
		if !some {
			return took, last
		}
		for _, h := range a.heard {
			if n < len(h) {
				took = append(took, h[n].Sub(first))
				if h[n].After(last) {
					last = h[n]
				}
			}
		}
	}
}

// watchers is the scenario of many clients that watch.
func (r *run) watchers(ctx context.Context) error {
	hear, stop := context.WithCancel(ctx)
	defer stop()
	a, err := r.listen(hear, r.deployments[0].Namespace)
	if err != nil {
		return err
	}
	if err := r.quiet(ctx); err != nil {
		return err
	}
	r.Say("%s: %d clients watch", r.target.Side, len(a.heard))
	from, err := r.read(ctx)
	if err != nil {
		return err
	}
	heard, want := 0, 0
	late := r.under(ctx, func(ctx context.Context) error {
		if err := r.start(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(ctx, r.Within, errTime)
		defer cancel()
		err := poll(ctx, func() (bool, error) {
			before := heard
			var all bool
			heard, want, all = a.count()
			return all && heard == before, nil
		})
		return missed(err, "not all watchers have heard the same")
	})
	if late != nil && !errors.Is(late, errTime) {
		return late
	}
	to, err := r.read(ctx)
	if err != nil {
		return err
	}
	r.steps(r.scenario.Pods, from.at, "request", r.asks())
	r.up(from, to, r.scenario.Pods)
	took, last := a.behind()
	r.add("delivered", want, last.Sub(from.at), "the first heard", took)
	return late
}
