package main

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"

	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
)

// BenchmarkVerify runs `reprise verify --offline` on logs of realistic events: of the
// log alone, and with the comparison of the state. On a machine that does other things
// too the processor time says more than the events a second.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []uint64{100_000, 1_000_000} {
		if testing.Short() && n > 100_000 {
			b.Logf("%d events take minutes to write; run without -short", n)
			continue
		}
		dir := benchDir(b, n)
		for name, args := range map[string][]string{"log": {"--log-only"}, "log and state": nil} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				before := spent(b)
				for b.Loop() {
					if out, err := verifyOffline(b, dir, args...); err != nil {
						b.Fatal(err, out)
					}
				}
				events := float64(n) * float64(b.N)
				b.ReportMetric(float64(spent(b)-before)/1000/events, "cpu-µs/event")
				b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// benchDir is a data directory with a log of n events and its projection.
func benchDir(b *testing.B, n uint64) string {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	env := &environment{DataDir: b.TempDir()}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: env.LogDir(), UnsafeNoSync: true})
	check(err)
	defer server.Shutdown()
	nc, err := server.Connect()
	check(err)
	defer nc.Close()
	log, err := jetstream.History(b.Context(), nc, jetstream.Config{})
	check(err)
	last := uint64(0)
	for batch := range eventsgen.New(eventsgen.Options{Seed: 1, Events: n}).Batches(200) {
		last, err = log.Append(b.Context(), last, batch)
		check(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, err := pebble.Open(env.ProjectionDir(), pebble.Options{Log: slog.New(slog.DiscardHandler)})
	check(err)
	l, err := live.Start(ctx, log, live.Options{Store: store, Log: slog.New(slog.DiscardHandler)})
	check(err)
	check(l.Wait(ctx, last))
	cancel()
	<-l.Done()
	check(store.Close())
	return env.DataDir
}

// spent is the processor time of this process in nanoseconds.
func spent(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
