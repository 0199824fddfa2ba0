package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
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
	cuts  int           // how often the server ended a watch, because its client was slow
	lost  int           // how many watchers could not go on where they had been cut off
}

// watcher is one of an audience.
type watcher struct {
	audience  *audience
	i         int
	client    rest.Interface
	namespace string
	version   string // of what it has heard last
}

// listen starts the watchers, which begin at the same version and hear until ctx
// ends.
func (r *run) listen(ctx context.Context, namespace string) (*audience, error) {
	list, err := r.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	a := &audience{heard: make([][]time.Time, r.scenario.Watchers)}
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
		w := &watcher{audience: a, i: i, client: client.CoreV1().RESTClient(), namespace: namespace, version: list.ResourceVersion}
		stream, err := w.open(ctx)
		if err != nil {
			return nil, fmt.Errorf("watcher %d: %w", i, err)
		}
		go w.follow(ctx, stream)
	}
	return a, nil
}

func (w *watcher) open(ctx context.Context) (io.ReadCloser, error) {
	return w.client.Get().Namespace(w.namespace).Resource("pods").
		VersionedParams(&metav1.ListOptions{Watch: true, ResourceVersion: w.version}, scheme.ParameterCodec).Stream(ctx)
}

// follow hears until ctx ends, and goes on where it was if it is cut off, as
// clients do.
func (w *watcher) follow(ctx context.Context, stream io.ReadCloser) {
	for {
		last := w.hear(stream)
		if ctx.Err() != nil {
			return
		}
		w.audience.mu.Lock()
		w.audience.cuts++
		w.audience.mu.Unlock()
		err := w.heardOf(last)
		if err == nil {
			stream, err = w.open(ctx)
		}
		if err != nil {
			w.audience.mu.Lock()
			w.audience.lost++
			w.audience.mu.Unlock()
			return
		}
	}
}

// hear notes the time of each event and does not read what it says, but for the
// last: the frames of a watch in protobuf begin with their length.
func (w *watcher) hear(stream io.ReadCloser) (last []byte) {
	defer stream.Close()
	in := bufio.NewReader(stream)
	var frame []byte
	for {
		var length [4]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return last
		}
		n := int(binary.BigEndian.Uint32(length[:]))
		frame = slices.Grow(frame[:0], n)[:n]
		if _, err := io.ReadFull(in, frame); err != nil {
			return last
		}
		last, frame = frame, last
		now := time.Now()
		w.audience.mu.Lock()
		w.audience.heard[w.i] = append(w.audience.heard[w.i], now)
		w.audience.mu.Unlock()
	}
}

// heardOf takes the version from a frame.
func (w *watcher) heardOf(frame []byte) error {
	if frame == nil {
		return nil
	}
	var event metav1.WatchEvent
	if err := event.Unmarshal(frame); err != nil {
		return err
	}
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(event.Object.Raw, nil, nil)
	if err != nil {
		return err
	}
	pod, is := object.(*core.Pod)
	if !is {
		return fmt.Errorf("heard of a %T", object)
	}
	w.version = pod.ResourceVersion
	return nil
}

// count is how much all have heard, how much they would have if each had heard what
// one has, and whether all have who could.
func (a *audience) count() (total, want int, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	most, whole := 0, 0
	for _, h := range a.heard {
		total += len(h)
		most = max(most, len(h))
	}
	for _, h := range a.heard {
		if len(h) == most {
			whole++
		}
	}
	return total, most * len(a.heard), whole+a.lost >= len(a.heard)
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
	beside := r.beside(ctx)
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
	if err := <-beside; err != nil {
		return err
	}
	r.steps(r.scenario.Pods, from.at, "request", r.asks())
	r.up(from, to, r.scenario.Pods)
	took, last := a.behind()
	r.add("delivered", want, last.Sub(from.at), "the first heard", took)
	if late != nil {
		r.result.Cuts = a.cuts
		return late
	}
	err = r.measuredEnd(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	r.result.Cuts = a.cuts
	return err
}
