package pebble_test

import (
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
)

// Folding events that lie in memory: into a state alone, and with the durable
// projection.
func BenchmarkRebuild(b *testing.B) {
	var log [][]events.Event
	n := 0
	for batch := range eventsgen.New(eventsgen.Options{Seed: 1, Events: min(*length, 200_000)}).Batches(250) {
		log = append(log, batch)
		n += len(batch)
	}
	for _, durable := range []bool{false, true} {
		b.Run(map[bool]string{false: "memory", true: "durable"}[durable], func(b *testing.B) {
			b.ReportAllocs()
			start := processor(b)
			for b.Loop() {
				rebuild(b, log, durable)
			}
			perSecond(b, n*b.N)
			b.ReportMetric((processor(b)-start).Seconds()*1e6/float64(n*b.N), "cpu-us/event")
		})
	}
}

func rebuild(b *testing.B, log [][]events.Event, durable bool) {
	state := projections.NewState()
	var s *pebble.Store
	if durable {
		var err error
		last := log[len(log)-1]
		events := last[len(last)-1].Sequence
		if s, err = pebble.Open(b.TempDir(), pebble.Options{Log: quiet, Events: events}); err != nil {
			b.Fatal(err)
		}
	}
	for _, batch := range log {
		changes, err := state.Fold(batch)
		if err != nil {
			b.Fatal(err)
		}
		if durable {
			if err := s.Commit(batch, changes); err != nil {
				b.Fatal(err)
			}
		}
	}
	if durable {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func perSecond(b *testing.B, n int) { b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s") }

// What a server does at its start when it has no projection: it reads the log, from
// JetStream or from its files, checks the chain, folds, and stores.
func BenchmarkRebuildFromJetStream(b *testing.B) {
	dir := b.TempDir()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, UnsafeNoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	log, err := jetstream.History(b.Context(), nc, jetstream.Config{})
	if err != nil {
		b.Fatal(err)
	}
	last := uint64(0)
	for batch := range generator().Batches(900) {
		if last, err = log.Append(b.Context(), last, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("messages", func(b *testing.B) { start(b, log, last) })
	b.Run("files", func(b *testing.B) { start(b, blocks.ReadAhead(log, dir, ""), last) })
}

// start folds a log as a server does at its start.
func start(b *testing.B, log events.Log, last uint64) {
	before := heap()
	start := processor(b)
	for b.Loop() {
		s, err := pebble.Open(b.TempDir(), pebble.Options{Log: quiet, Events: last})
		if err != nil {
			b.Fatal(err)
		}
		l, err := live.Start(b.Context(), log, live.Options{Store: s, Log: quiet})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(heap()-before, "heap-MB")
		b.StartTimer()
		l.Close()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, int(last)*b.N)
	b.ReportMetric((processor(b)-start).Seconds()*1e6/float64(int(last)*b.N), "cpu-us/event")
	b.ReportMetric(peak(b), "peak-MB")
}
