//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What the speed is meant to be, on a warm machine that does nothing else:
// ready in 5 s, running in 1.5 s, idle below 5 % of a core and 700 MB. These are
// benchmarks and not tests, because a busy machine is no failure; `make
// bench-start` runs them.

// BenchmarkStart measures from `reprise up` to "Ready.".
func BenchmarkStart(b *testing.B) {
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			c := unstarted(b)
			c.start()
			b.StopTimer()
			c.stop()
			c.must("reprise", "down", "--purge")
			b.StartTimer()
		}
		inSeconds(b)
	})
	b.Run("warm", func(b *testing.B) { restarts(b, (*cluster).stop) })
	b.Run("killed", func(b *testing.B) { restarts(b, (*cluster).kill) })
}

// restarts measures the start of a cluster that has run two pods, and runs them.
func restarts(b *testing.B, end func(*cluster)) {
	c := newCluster(b)
	c.apply(web)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	for b.Loop() {
		b.StopTimer()
		end(c)
		b.StartTimer()
		c.start()
	}
	inSeconds(b)
}

// BenchmarkApply measures from the start of `kubectl apply` of a Deployment to
// the first time that its pod is seen to run.
func BenchmarkApply(b *testing.B) {
	c := newCluster(b)
	manifest := strings.Replace(web, "replicas: 2", "replicas: 1", 1)
	round := func() {
		c.apply(manifest)
		c.kubectl("wait", "pods", "-l", "app=web", "--for=jsonpath={.status.phase}=Running", "--timeout=1m")
	}
	clear := func() {
		c.kubectl("delete", "deployment/web", "--cascade=foreground")
		c.kubectl("wait", "pods", "-l", "app=web", "--for=delete", "--timeout=1m")
	}
	round() // The first pod of a node finds cold caches.
	clear()
	for b.Loop() {
		round()
		b.StopTimer()
		clear()
		b.StartTimer()
	}
	inSeconds(b)
}

// BenchmarkIdle measures what a cluster costs that runs two pods and in which
// nothing happens.
func BenchmarkIdle(b *testing.B) {
	const watched = 20 * time.Second
	c := newCluster(b)
	c.apply(web)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	c.eventually("the log is at rest", c.atRest())
	processor, memory := map[string]float64{}, map[string]float64{}
	for b.Loop() {
		before := c.usage()
		<-time.After(watched)
		for pid, after := range c.usage() {
			processor[after.program] += (after.processor - before[pid].processor).Seconds()
			memory[after.program] += after.memory
		}
	}
	n := float64(b.N)
	var allProcessor, allMemory float64
	for program := range memory {
		percent, megabytes := 100*processor[program]/n/watched.Seconds(), memory[program]/n/1e6
		allProcessor += percent
		allMemory += megabytes
		b.ReportMetric(percent, program+"-cpu-%")
		b.ReportMetric(megabytes, program+"-MB")
	}
	b.ReportMetric(allProcessor, "all-cpu-%")
	b.ReportMetric(allMemory, "all-MB")
	b.ReportMetric(0, "ns/op")
}

func inSeconds(b *testing.B) {
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/op")
	b.ReportMetric(0, "ns/op")
}

// usage is what a process has used.
type usage struct {
	program   string
	processor time.Duration
	memory    float64 // its share of the resident bytes
}

// usage tells it of each process of the cluster that is not a container's.
func (c *cluster) usage() map[string]usage {
	const tick = 10 * time.Millisecond
	all := map[string]usage{}
	for _, pid := range pids(c) {
		dir := filepath.Join("/proc", pid)
		stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
		name, rest, _ := bytes.Cut(stat, []byte(") "))
		_, name, _ = bytes.Cut(name, []byte("("))
		fields := strings.Fields(string(rest))
		if len(fields) < 13 {
			continue
		}
		var ticks int
		for _, field := range fields[11:13] {
			n, _ := strconv.Atoi(field)
			ticks += n
		}
		rollup, _ := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		all[pid] = usage{program: string(name), processor: time.Duration(ticks) * tick, memory: share(rollup)}
	}
	return all
}

// share reads the proportional set size out of smaps_rollup.
func share(rollup []byte) float64 {
	lines := bufio.NewScanner(bytes.NewReader(rollup))
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "Pss:" {
			kilobytes, _ := strconv.ParseFloat(fields[1], 64)
			return kilobytes * 1024
		}
	}
	return 0
}
