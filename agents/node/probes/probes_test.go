package probes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/node/hooks"
	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/agents/node/probes"
)

// TestTranscripts has a container whose probes fail from one second to another
// and prints each verdict with its time.
//
//	watch for=D [down=kind:from-to ...] [started] [ready]   the container, as YAML
func TestTranscripts(t *testing.T) {
	datadriven.RunTest(t, "testdata/verdicts.txt", func(t *testing.T, d *datadriven.TestData) string {
		var c v1.Container
		if err := yaml.UnmarshalStrict([]byte(d.Input), &c); err != nil {
			d.Fatalf(t, "%v", err)
		}
		var length string
		d.ScanArgs(t, "for", &length)
		total, err := time.ParseDuration(length)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		var out string
		synctest.Test(t, func(t *testing.T) { out = watch(t, d, &c, total) })
		return out
	})
}

func watch(t *testing.T, d *datadriven.TestData, c *v1.Container, total time.Duration) string {
	start := time.Now()
	caller := &caller{start: start, container: c, down: outages(t, d)}
	var mu sync.Mutex
	var out strings.Builder
	var p *probes.Prober
	print := func(types.UID) {
		v, _ := p.Verdict("c1")
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&out, "%s started=%v ready=%v", time.Since(start), v.Started, v.Ready)
		if v.Unhealthy != "" {
			fmt.Fprintf(&out, " unhealthy: %s", v.Unhealthy)
		}
		out.WriteByte('\n')
	}
	p = probes.New(caller, clock.RealClock{}, print)
	ctx, cancel := context.WithCancel(t.Context())
	pod := &v1.Pod{}
	initial := plan.Probe{Started: d.HasArg("started"), Ready: d.HasArg("ready")}
	p.Watch(ctx, pod, hooks.Target{Spec: c, ID: "c1"}, start, initial)
	print("")
	time.Sleep(total)
	synctest.Wait()
	cancel()
	synctest.Wait()
	p.Forget("c1")
	return out.String()
}

// outage is when probes of a kind fail.
type outage struct {
	kind     string
	from, to time.Duration
}

func outages(t *testing.T, d *datadriven.TestData) (out []outage) {
	for _, a := range d.CmdArgs {
		if a.Key != "down" {
			continue
		}
		for _, v := range a.Vals {
			var o outage
			kind, span, _ := strings.Cut(v, ":")
			from, to, _ := strings.Cut(span, "-")
			var err1, err2 error
			o.kind = kind
			o.from, err1 = time.ParseDuration(from)
			o.to, err2 = time.ParseDuration(to)
			if err := errors.Join(err1, err2); err != nil {
				d.Fatalf(t, "%v", err)
			}
			out = append(out, o)
		}
	}
	return out
}

type caller struct {
	start     time.Time
	container *v1.Container
	down      []outage
}

func (c *caller) Probe(_ context.Context, p *v1.Probe, _ hooks.Target) error {
	kind := map[*v1.Probe]string{c.container.LivenessProbe: "liveness", c.container.ReadinessProbe: "readiness", c.container.StartupProbe: "startup"}[p]
	now := time.Since(c.start)
	for _, o := range c.down {
		if o.kind == kind && now >= o.from && now < o.to {
			return errors.New("down")
		}
	}
	return nil
}
