package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// headroom is how much a process may hold beyond what is in use, before the collector
// begins. A percentage alone is too much of a large heap, where a gigabyte more saves
// little, and a fixed amount too little of a small one (decision 0335).
type headroom struct {
	most  uint64 // bytes
	least int    // percent, however large the heap: collecting then costs no more than so often
	usual int    // percent, while that is less than most
}

var (
	// serverHeadroom leaves the heap at Go's default up to 3 GB in use, which is 100,000
	// pods on 5,000 nodes.
	serverHeadroom = headroom{most: 3 << 30, least: 40, usual: 100}
	// hollowHeadroom is generous while the heap is small: what collecting it costs is
	// time that the servers do not have.
	hollowHeadroom = headroom{most: 1280 << 20, least: 40, usual: 300}
)

// percent is by how much the heap may grow when live bytes are in use.
func (h headroom) percent(live uint64) int {
	if live*uint64(h.usual)/100 <= h.most {
		return h.usual
	}
	return max(h.least, int(h.most*100/live))
}

// keep has the collector heed h until ctx ends. It does nothing if the environment
// says what the collector is to do.
func (h headroom) keep(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(h.usual)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for set := h.usual; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		// To set it stops the world for a moment: not for a percent or two.
		if p := h.percent(live[0].Value.Uint64()); p*20 < set*19 || p*19 > set*20 {
			debug.SetGCPercent(p)
			set = p
		}
	}
}
