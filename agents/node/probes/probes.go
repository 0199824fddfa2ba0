// Package probes watches over running containers by their startup, readiness and
// liveness probes, and keeps a verdict on each for the node agent's plan.
//
// It kills nothing and reports nothing: it tells the agent that a verdict has
// changed, and the agent plans anew.
package probes

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/agents/node/hooks"
	"github.com/reprise-run/reprise/agents/node/plan"
)

// Caller carries out one probe.
type Caller interface {
	Probe(ctx context.Context, p *v1.Probe, t hooks.Target) error
}

// Prober watches over containers.
type Prober struct {
	caller  Caller
	clock   clock.WithTicker
	changed func(types.UID)

	mu      sync.Mutex
	watched map[string]*watched
}

// watched is a container with probes.
type watched struct {
	cancel context.CancelFunc
	now    plan.Probe
}

// New returns a prober that calls changed with the pod when a verdict on one of
// its containers has changed.
func New(caller Caller, clock clock.WithTicker, changed func(types.UID)) *Prober {
	return &Prober{caller: caller, clock: clock, changed: changed, watched: map[string]*watched{}}
}

// Watch starts to watch over a running container, if it has probes and is not
// watched yet. Initial is what is known of it from before the agent was
// restarted.
func (p *Prober) Watch(ctx context.Context, pod *v1.Pod, t hooks.Target, started time.Time, initial plan.Probe) {
	if t.Spec.StartupProbe == nil && t.Spec.ReadinessProbe == nil && t.Spec.LivenessProbe == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.watched[t.ID]; known {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watched{cancel: cancel, now: Unasked(t.Spec, initial)}
	p.watched[t.ID] = w
	go p.watch(ctx, pod.UID, t, w, started)
}

// Unasked is what is known of a container whose probes have not been asked: what was known
// last, and that all is well where there is no probe.
func Unasked(spec *v1.Container, last plan.Probe) plan.Probe {
	return plan.Probe{
		Started: spec.StartupProbe == nil || last.Started,
		Ready:   spec.ReadinessProbe == nil || last.Ready,
	}
}

// Verdict returns what the probes of a container have found, and whether it is watched at
// all: one that is not is well, as far as is known.
func (p *Prober) Verdict(id string) (v plan.Probe, watched bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, known := p.watched[id]; known {
		return w.now, true
	}
	return plan.Probe{Started: true, Ready: true}, false
}

// Forget stops watching over a container.
func (p *Prober) Forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, known := p.watched[id]; known {
		w.cancel()
		delete(p.watched, id)
	}
}

// watch runs the startup probe until it passes, and then the others.
func (p *Prober) watch(ctx context.Context, uid types.UID, t hooks.Target, w *watched, started time.Time) {
	if now, _ := p.Verdict(t.ID); t.Spec.StartupProbe != nil && !now.Started {
		spec := t.Spec.StartupProbe
		ok := p.repeat(ctx, spec, t, started, func(c *count) bool {
			if c.bad {
				p.set(uid, t.ID, w, func(v *plan.Probe) {
					v.Unhealthy, v.Grace = condemned("startup", t.Spec.Name, c.last), spec.TerminationGracePeriodSeconds
				})
			}
			return !c.good && !c.bad
		})
		if !ok {
			return
		}
		p.set(uid, t.ID, w, func(v *plan.Probe) { v.Started = true })
	}
	if spec := t.Spec.LivenessProbe; spec != nil {
		go p.repeat(ctx, spec, t, started, func(c *count) bool {
			if c.bad {
				p.set(uid, t.ID, w, func(v *plan.Probe) {
					v.Unhealthy, v.Grace = condemned("liveness", t.Spec.Name, c.last), spec.TerminationGracePeriodSeconds
				})
			}
			return !c.bad
		})
	}
	if spec := t.Spec.ReadinessProbe; spec != nil {
		p.repeat(ctx, spec, t, started, func(c *count) bool {
			if c.good || c.bad {
				p.set(uid, t.ID, w, func(v *plan.Probe) { judge(v, c) })
			}
			return true
		})
	}
}

// judge takes in the verdict of a readiness probe. The first reason stands for
// those after it: they may differ each time, and are no news.
func judge(v *plan.Probe, c *count) {
	v.Ready = c.good
	switch {
	case c.good:
		v.Unready = ""
	case v.Unready == "":
		v.Unready = c.last.Error()
	}
}

// repeat probes at intervals until keep says no, and says whether the last
// verdict was good.
func (p *Prober) repeat(ctx context.Context, spec *v1.Probe, t hooks.Target, started time.Time, keep func(*count) bool) bool {
	if !p.sleep(ctx, started.Add(time.Duration(spec.InitialDelaySeconds)*time.Second).Sub(p.clock.Now())) {
		return false
	}
	c := newCount(spec)
	for {
		err := p.caller.Probe(ctx, spec, t)
		if ctx.Err() != nil {
			return false
		}
		c.add(err)
		if !keep(c) {
			return c.good
		}
		if !p.sleep(ctx, time.Duration(max(spec.PeriodSeconds, 1))*time.Second) {
			return false
		}
	}
}

// sleep waits, and says whether it was not disturbed.
func (p *Prober) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := p.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// set changes a verdict and tells the agent if it is another.
func (p *Prober) set(uid types.UID, id string, w *watched, change func(*plan.Probe)) {
	p.mu.Lock()
	before := w.now
	change(&w.now)
	tell := p.watched[id] == w && before != w.now
	p.mu.Unlock()
	if tell {
		p.changed(uid)
	}
}

// count turns results into verdicts, by the thresholds of a probe.
type count struct {
	spec      *v1.Probe
	in        int32 // results in a row of one kind
	well      bool  // that kind
	good, bad bool
	last      error
}

func newCount(spec *v1.Probe) *count { return &count{spec: spec} }

// add counts a result. A verdict stands until the other one is reached.
func (c *count) add(err error) {
	if well := err == nil; c.in == 0 || well != c.well {
		c.in, c.well = 0, well
	}
	c.in++
	c.last = err
	switch {
	case c.well && c.in >= max(c.spec.SuccessThreshold, 1):
		c.good, c.bad = true, false
	case !c.well && c.in >= max(c.spec.FailureThreshold, 1):
		c.good, c.bad = false, true
	}
}

// condemned words why a probe wants a container killed.
func condemned(kind, container string, err error) string {
	return fmt.Sprintf("container %s failed its %s probe: %v", container, kind, err)
}
