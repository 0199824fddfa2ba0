package load

import (
	"context"
	"fmt"
	"time"
)

// meter is what had been used when it was read.
type meter struct {
	at          time.Time
	control     time.Duration
	each        map[string]time.Duration
	nodes, load time.Duration
	position    int64
	stored      int64
}

// read reads what has been used until now.
func (r *run) read(ctx context.Context) (m meter, err error) {
	m.at, m.each, m.load = time.Now(), each(r.target.Control), ownCPU()
	if m.control, err = sum(r.target.Control, cpuOf); err != nil {
		return m, err
	}
	if m.nodes, err = sum(r.target.Nodes, cpuOf); err != nil {
		return m, err
	}
	if m.position, err = position(ctx, r.client, probing); err != nil {
		return m, fmt.Errorf("cannot tell how many events there are: %w", err)
	}
	m.stored, err = stored(r.target.Data)
	return m, err
}

// cost is what was used between two readings for each of some pods.
func cost(from, to meter, pods int) Cost {
	a := func(d time.Duration) float64 { return milliseconds(d) / float64(max(1, pods)) }
	c := Cost{Control: a(to.control - from.control), Nodes: a(to.nodes - from.nodes), Load: a(to.load - from.load), Each: map[string]float64{}}
	for name, after := range to.each {
		c.Each[name] = a(after - from.each[name])
	}
	return c
}

// up fills in what it took to get some pods ready.
func (r *run) up(from, to meter, pods int) {
	r.result.Up = cost(from, to, pods)
	r.result.Events = float64(to.position-from.position) / float64(max(1, pods))
	r.result.Fullest = r.observer.fullest()
	r.result.StoredBytes = float64(to.stored-from.stored) / float64(max(1, pods))
}

// step measures, over the pods that are counted, from when something was asked for,
// or had happened, until something happened.
func (r *run) step(name string, want int, began time.Time, since string, from, to func(*life) time.Time) {
	var took []time.Duration
	last := began
	r.observer.mu.Lock()
	defer r.observer.mu.Unlock()
	for _, l := range r.observer.lives {
		begin, end := from(l), to(l)
		if end.IsZero() || begin.IsZero() {
			continue
		}
		took = append(took, end.Sub(begin))
		if end.After(last) {
			last = end
		}
	}
	r.add(name, want, last.Sub(began), since, took)
}

func (r *run) add(name string, want int, all time.Duration, since string, took []time.Duration) {
	s := Step{Name: name, Count: len(took), Want: want, Seconds: all.Seconds(), Since: since, Latency: latencyOf(took)}
	if all > 0 {
		s.PerSecond = float64(s.Count) / s.Seconds
	}
	r.result.Steps = append(r.result.Steps, s)
}

// asks returns when a pod's Deployment was asked for what was asked last.
func (r *run) asks() func(*life) time.Time {
	return func(l *life) time.Time { return r.asked[l.deployment] }
}

// steps measures how pods come to be, since began and since what from says.
func (r *run) steps(want int, began time.Time, since string, from func(*life) time.Time) {
	created := func(l *life) time.Time { return l.created }
	bound := func(l *life) time.Time { return l.bound }
	running := func(l *life) time.Time { return l.running }
	r.step("created", want, began, since, from, created)
	r.step("bound", want, began, "created", created, bound)
	r.step("running", want, began, "bound", bound, running)
	r.step("in all", want, began, since, from, running)
}
