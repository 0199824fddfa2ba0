package main

import (
	"context"
	"runtime/debug"
	"testing"
)

func TestHeadroom(t *testing.T) {
	h := headroom{most: 1 << 30, least: 40, usual: 100}
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 100},
		{100 << 20, 100},
		{1 << 30, 100},
		{1<<30 + 11<<20, 98},
		{2 << 30, 50},
		{4 << 30, 40},
		{1 << 40, 40},
	} {
		if got := h.percent(c.live); got != c.want {
			t.Errorf("with %d MB in use the heap may grow by %d %%, want %d", c.live>>20, got, c.want)
		}
	}
}

// What an operator sets counts.
func TestHeadroomOfTheEnvironment(t *testing.T) {
	usual := debug.SetGCPercent(77)
	defer debug.SetGCPercent(usual)
	ctx, end := context.WithCancel(t.Context())
	end()
	t.Setenv("GOGC", "77")
	headroom{most: 1, least: 10, usual: 200}.keep(ctx)
	if got := debug.SetGCPercent(77); got != 77 {
		t.Errorf("the collector was set to %d %%, want the 77 of the environment", got)
	}
	t.Setenv("GOGC", "")
	headroom{most: 1, least: 10, usual: 200}.keep(ctx)
	if got := debug.SetGCPercent(77); got != 200 {
		t.Errorf("the collector was set to %d %%, want the usual 200", got)
	}
}
