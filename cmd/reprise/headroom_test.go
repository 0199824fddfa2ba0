package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
)

func TestHeadroom(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		h          headroom
		live, rate uint64
		nodes      int
		want       int
	}{
		{headroom{usual: 100, most: 1 << 30, least: 40}, 0, 0, 0, 100},
		{headroom{usual: 100, most: 1 << 30, least: 40}, 100 * mb, 100 * mb, 0, 100},
		{headroom{usual: 100, most: 1 << 30, least: 40}, 1 << 30, 100 * mb, 0, 100},
		{headroom{usual: 100, most: 1 << 30, least: 40}, 1<<30 + 11*mb, 100 * mb, 0, 98},
		{headroom{usual: 100, most: 1 << 30, least: 40}, 2 << 30, 100 * mb, 0, 50},
		{headroom{usual: 100, most: 1 << 30, least: 40}, 4 << 30, 100 * mb, 0, 40},
		{headroom{usual: 100, most: 1 << 30, least: 40}, 1 << 40, 100 * mb, 0, 40},

		// A server that rests, and one with something to do.
		{serverHeadroom, 50 * mb, 1 * mb, 200, 40},
		{serverHeadroom, 50 * mb, 100 * mb, 200, 128},
		{serverHeadroom, 200 * mb, 1 * mb, 200, 40},
		{serverHeadroom, 200 * mb, 100 * mb, 200, 40},
		{serverHeadroom, 400 * mb, 100 * mb, 1000, 49},
		{serverHeadroom, 1 << 30, 100 * mb, 1000, 58},
		// One of thousands of nodes, of which a collection looks at a million objects.
		{serverHeadroom, 200 * mb, 100 * mb, 5000, 782},
		{serverHeadroom, 200 * mb, 53 * mb, 5000, 782},
		{serverHeadroom, 200 * mb, 10 * mb, 5000, 150},
		{serverHeadroom, 200 * mb, 10 * mb, 1001, 40},
		{serverHeadroom, 200 * mb, 2 * mb, 5000, 40},
		{serverHeadroom, 100 * mb, 10 * mb, 1000, 64},
		{serverHeadroom, 100 * mb, 10 * mb, 2000, 300},
		{serverHeadroom, 100 * mb, 2 * mb, 1000, 40},
		{serverHeadroom, 200 * mb, 100 * mb, 2000, 219},
		{serverHeadroom, 1 << 30, 100 * mb, 5000, 152},
		// One with so many objects that each collection takes long.
		{serverHeadroom, 1536 * mb, 100 * mb, 1000, 127},
		{serverHeadroom, 1536 * mb, 100 * mb, 5000, 168},
		{serverHeadroom, 2560 * mb, 100 * mb, 1000, 130},
		{serverHeadroom, 2560 * mb, 100 * mb, 5000, 130},
		{serverHeadroom, 10 << 30, 100 * mb, 5000, 40},
		// Few hollow nodes, and thousands, which need not be looked at often.
		{hollowHeadroom, 32 * mb, 0, 0, 100},
		{hollowHeadroom, 32 * mb, 100 * mb, 0, 100},
		{hollowHeadroom, 100 * mb, 100 * mb, 0, 100},
		{hollowHeadroom, 256 * mb, 100 * mb, 0, 200},
		{hollowHeadroom, 1 << 30, 100 * mb, 0, 125},
	} {
		if got := c.h.percent(c.live, c.rate, c.nodes); got != c.want {
			t.Errorf("with %d MB in use, %d MB a second and %d nodes the heap may grow by %d %%, want %d", c.live/mb, c.rate/mb, c.nodes, got, c.want)
		}
	}
}

func TestRate(t *testing.T) {
	before := reading{at: time.Unix(100, 0), live: 7, allocated: 1000}
	for _, c := range []struct {
		after reading
		want  uint64
	}{
		{reading{time.Unix(110, 0), 9, 6000}, 500},
		{reading{time.Unix(100, 5e8), 9, 6000}, 10_000},
		{reading{time.Unix(110, 0), 9, 1000}, 0},
		// No time at all counts as a millisecond.
		{reading{time.Unix(100, 0), 9, 1007}, 7000},
	} {
		if got := c.after.rateSince(before); got != c.want {
			t.Errorf("%+v after %+v: %d bytes a second, want %d", c.after, before, got, c.want)
		}
	}
}

// discarded is on the heap.
var discarded []byte

// The headroom follows what is in use, and the number of nodes, from one collection to the
// next, while much is allocated.
func TestHeadroomFollowsCollections(t *testing.T) {
	usual := debug.SetGCPercent(100)
	defer debug.SetGCPercent(usual)
	t.Setenv("GOGC", "")
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var nodes atomic.Int64
	go func() {
		defer close(ended)
		headroom{usual: 50, busy: 128 << 20, node: 1 << 20, most: 1 << 30}.keep(ctx, func() int { return int(nodes.Load()) })
	}()
	defer func() { end(); <-ended }()
	now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	until := func(what string, met func(percent uint64) bool) {
		t.Helper()
		for range 10_000 {
			discarded = make([]byte, 8<<20)
			runtime.GC()
			metrics.Read(now)
			if met(now[0].Value.Uint64()) {
				return
			}
		}
		t.Fatalf("%s: the heap may grow by %d %%", what, now[0].Value.Uint64())
	}
	until("little is in use", func(p uint64) bool { return p > 200 })
	held := make([]byte, 256<<20)
	until("much is in use", func(p uint64) bool { return p >= 45 && p <= 55 })
	nodes.Store(manyNodes + 512)
	until("there are many nodes", func(p uint64) bool { return p > 200 })
	nodes.Store(manyNodes)
	until("there are few nodes", func(p uint64) bool { return p >= 45 && p <= 55 })
	runtime.KeepAlive(held)
	held = nil
	until("little is in use again", func(p uint64) bool { return p > 200 })
}

// What an operator sets counts.
func TestHeadroomOfTheEnvironment(t *testing.T) {
	usual := debug.SetGCPercent(77)
	defer debug.SetGCPercent(usual)
	ctx, end := context.WithCancel(t.Context())
	end()
	t.Setenv("GOGC", "77")
	headroom{most: 1, least: 10, usual: 200}.keep(ctx, nil)
	if got := debug.SetGCPercent(77); got != 77 {
		t.Errorf("the collector was set to %d %%, want the 77 of the environment", got)
	}
	t.Setenv("GOGC", "")
	headroom{most: 1, least: 10, usual: 200}.keep(ctx, nil)
	if got := debug.SetGCPercent(77); got != 200 {
		t.Errorf("the collector was set to %d %%, want the usual 200", got)
	}
}
