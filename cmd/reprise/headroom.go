package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// headroom is how much a process may hold beyond what is in use, before the collector
// begins. A percentage alone is of a small heap too little while much is done (decision
// 0371), and of a heap with millions of objects, which each collection has to look at
// (decision 0376), until there is no more memory to be had for it (decision 0335).
type headroom struct {
	usual int    // percent of what is in use beyond small
	small uint64 // bytes in use: of that alone the headroom is least, or busy
	busy  uint64 // bytes: less than that it is not while as much is allocated soon
	node  uint64 // bytes: up to so much more than busy for each node beyond manyNodes, while it is allocated soon
	large uint64 // bytes in use: of what is beyond that twice as much comes on top; 0: nothing does
	most  uint64 // bytes
	least int    // percent, however small or large the heap: collecting then costs no more than so often
}

var (
	// serverHeadroom is less than Go's default with up to 20,000 pods, half of which is
	// documents that cost nothing to mark, and more with 100,000 on 5,000 nodes, which
	// are 2.5 GB in use. With few pods it is least: memory that was not touched before
	// costs as much there as to collect what is in use (decision 0370).
	// Each collection looks at all that thousands of nodes have, and a cluster of so many
	// may take gigabytes (decision 0395).
	serverHeadroom = headroom{usual: 65, small: 96 << 20, busy: 64 << 20, node: 384 << 10, large: 1 << 30, most: 3328 << 20, least: 40}
	// hollowHeadroom is small while the heap is: memory that was not touched before costs
	// more than to collect what 200 nodes hold, and takes time that the servers do not
	// have (decision 0389). What thousands of nodes hold is rather not looked at often.
	hollowHeadroom = headroom{usual: 100, large: 128 << 20, most: 1280 << 20, least: 40}
)

const (
	// soon is in how many seconds what is busy has to be allocated for the headroom to be as much.
	soon = 30
	// manyNodes have no headroom of their own: they are within busy.
	manyNodes = 1000
)

// percent is by how much the heap may grow when a collection has found live bytes in
// use, while rate bytes a second are allocated in a cluster of so many nodes.
func (h headroom) percent(live, rate uint64, nodes int) int {
	live = max(live, 1<<20)
	room := (live - min(live, h.small)) * uint64(h.usual) / 100
	if used := rate * soon; used >= h.busy {
		room = max(room, min(used, h.busy+h.node*uint64(max(nodes-manyNodes, 0))))
	}
	if h.large > 0 && live > h.large {
		room += 2 * (live - h.large)
	}
	return max(h.least, int(min(room, h.most)*100/live))
}

// keep has the collector heed h until ctx ends; nodes is how many the cluster has, nil if
// that does not matter. It does nothing if the environment says what the collector is to
// do.
func (h headroom) keep(ctx context.Context, nodes func() int) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(h.usual)
	collected := make(chan struct{}, 1)
	tellOfCollection(collected)
	last, rate := readHeap(), uint64(0)
	for set := h.usual; ; {
		select {
		case <-ctx.Done():
			return
		case <-collected:
		}
		tellOfCollection(collected)
		now, n := readHeap(), 0
		if nodes != nil {
			n = nodes()
		}
		// One burst between two collections is not a load.
		before := rate
		rate = now.rateSince(last)
		p := h.percent(now.live, min(before, rate), n)
		last = now
		// To lower it may begin a collection: not for a percent or two.
		if p*20 < set*19 || p*19 > set*20 {
			debug.SetGCPercent(p)
			set = p
		}
	}
}

// reading is what the runtime tells of the heap.
type reading struct {
	at              time.Time
	live, allocated uint64 // bytes: what the last collection found in use, and what was allocated ever
}

func readHeap() reading {
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(heap)
	return reading{time.Now(), heap[0].Value.Uint64(), heap[1].Value.Uint64()}
}

// rateSince is how many bytes a second were allocated between two readings.
func (r reading) rateSince(before reading) uint64 {
	took := max(r.at.Sub(before.at), time.Millisecond)
	return uint64(float64(r.allocated-before.allocated) / took.Seconds())
}

// tellOfCollection sends to c, which has room for one, when the next collection is over.
func tellOfCollection(c chan<- struct{}) {
	runtime.AddCleanup(new(chan struct{}), func(c chan<- struct{}) { c <- struct{}{} }, c)
}
